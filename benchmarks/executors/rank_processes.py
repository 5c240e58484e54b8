"""A group of processes that train together, one for each rank, started and watched by the process that wants them.

They find one another as under torchrun, by a store that the watching process keeps, on a port that the system chose.
Whatever ends one of them ends the others at once, so that no process and no port outlives the work.
"""

from __future__ import annotations

import contextlib
import multiprocessing.connection
import os
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

import cloudpickle  # type: ignore[import-untyped]
import torch
import torch.distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from trainoff.benchmarks.executors.fork_server_sharing import leave_fork_server
from trainoff.benchmarks.executors.memory_watch import SECONDS_BETWEEN_LOOKS, MemoryWatch
from trainoff.benchmarks.executors.process_tree import belong_to
from trainoff.benchmarks.executors.worker_processes import SECONDS_TO_END, ServedProcess, start_fork_server
from trainoff.benchmarks.executors.worker_side import Answer, Setup, get_ready, run

_ADDRESS = "127.0.0.1"
# A rank's death reaches its peers, as an error of their next collective, a moment before or after it reaches the
# watching process: so long a peer's error waits for it.
_SECONDS_FOR_A_DEATH = 0.5
_SECONDS_TO_LEAVE = 10.0

Payload = TypeVar("Payload")
Result = TypeVar("Result")


class Rank(Generic[Result]):
    """One rank's process, and how it ended.

    Args:
        number: From 0.
        setup: What it needs before the payload.
        payload: By cloudpickle.

    Attributes:
        result: What the function returned there; None where it did not.
        error: What it raised; None where it did not.
        traceback: The error's.
        exitcode: Where the process ended before it could tell: its exit status, minus the signal's number where a
            signal ended it, or :data:`UNSEEN`.
        memory: What says that the system killed it because memory ran out; empty where nothing does.
        ended_at: When it returned, raised or died, on the machine's one monotonic clock; None until then.
    """

    def __init__(self, number: int, setup: Setup, payload: bytes) -> None:
        self.number = number
        self.result: Result | None = None
        self.error: BaseException | None = None
        self.traceback = ""
        self.exitcode: int | None = None
        self.memory = ""
        self.ended_at: float | None = None
        self.connection, theirs = multiprocessing.Pipe()
        try:
            self.process = _started(theirs, setup, payload)
        finally:
            theirs.close()

    def listen(self, memory: MemoryWatch, process_ids: Sequence[int]) -> None:
        """Take its answer or its end, where one of them has come."""
        try:
            if self.connection.poll():
                answer, self.ended_at = self.connection.recv()
                self._take(answer)
                return
        except (EOFError, OSError):  # it died
            self.process.join(SECONDS_TO_END)
        if not self.process.is_alive():
            self.exitcode, self.ended_at = self.process.exitcode or 0, time.monotonic()
            if self.exitcode == -signal.SIGKILL:
                self.memory = memory.why_killed(process_ids)

    def _take(self, answer: Answer) -> None:
        if answer.result is not None:
            self.result = cloudpickle.loads(answer.result)
            return
        try:
            self.error = cloudpickle.loads(answer.error)
        except Exception:  # many exceptions cannot be built again from their arguments
            self.error = RuntimeError(answer.error_text)
        self.traceback = answer.traceback


def run_on_ranks(
    function: Callable[[Payload], Result],
    payload: Payload,
    ranks: int,
    preload: tuple[str, ...],
    is_failure: Callable[[Result], bool] = lambda result: False,
) -> list[Rank[Result]]:
    """Call a function in each of several processes that find one another through torch's environment variables.

    Args:
        function: Called with the payload in each process.
        payload: For all of them.
        ranks: How many.
        preload: What the fork server imports, where it has to be started.
        is_failure: Whether a result is a reason to end the others.

    Returns:
        How each rank ended. Where one failed, those that were still at work are ended, and theirs is no end.
    """
    store = TCPStore(_ADDRESS, 0, is_master=True, wait_for_workers=False)
    pickled, sent = cloudpickle.dumps(function), cloudpickle.dumps(payload)
    threads = torch.get_num_threads()
    started: list[Rank[Result]] = []

    def has_failed(rank: Rank[Result]) -> bool:
        return rank.ended_at is not None and (rank.result is None or is_failure(rank.result))

    try:
        for number in range(ranks):
            setup = Setup(pickled, preload, threads, _environment(number, ranks, store.port))
            started.append(Rank(number, setup, sent))
        _wait(started, has_failed)
        return started
    finally:
        all_well = all(rank.ended_at is not None and not has_failed(rank) for rank in started)
        _end(started, all_well)
        del store  # and with it its port


def _environment(rank: int, ranks: int, port: int) -> dict[str, str]:
    """The variables that torchrun sets: Lightning finds its place by them, torch the store that is there already."""
    return {
        **os.environ,
        "TORCHELASTIC_RUN_ID": "trainoff",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "MASTER_ADDR": _ADDRESS,
        "MASTER_PORT": str(port),
        "GROUP_RANK": "0",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
    }


def _started(connection: Connection, setup: Setup, payload: bytes) -> ServedProcess:
    for _ in range(2):
        start_fork_server(setup.preload, setup.threads)
        process = ServedProcess(target=_serve, args=(connection, setup, payload))
        try:
            process.start()
        except (ConnectionError, FileNotFoundError):  # the fork server that this process comes from is gone
            leave_fork_server()
        else:
            return process
    raise RuntimeError("the fork server ends as soon as it is started; what it prints may say why")


def _serve(connection: Connection, setup: Setup, payload: bytes) -> None:
    """The life of a rank's process.

    Once it has told how it went, it waits: its end would be an error to the others, which may not be as far.
    """
    owner = multiprocessing.parent_process()
    if owner is not None and owner.pid is not None:
        belong_to(owner.pid)  # for a limit of the trial's memory
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole foreground group: the run says what ends
    get_ready(setup)
    connection.send((run(payload), time.monotonic()))
    with contextlib.suppress(EOFError, OSError):
        connection.recv()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _wait(ranks: list[Rank[Any]], has_failed: Callable[[Rank[Any]], bool]) -> None:
    """Until all ranks have ended well, or one has not and its peers have had a moment to tell that they died first."""
    memory = MemoryWatch()
    process_ids = [rank.process.pid for rank in ranks if rank.process.pid is not None]
    deadline = None
    while pending := [rank for rank in ranks if rank.ended_at is None]:
        seconds = SECONDS_BETWEEN_LOOKS if deadline is None else deadline - time.monotonic()
        if seconds <= 0 or any(rank.exitcode is not None for rank in ranks):
            return
        ends = [end for rank in pending for end in (rank.connection, rank.process.sentinel)]
        multiprocessing.connection.wait(ends, min(seconds, SECONDS_BETWEEN_LOOKS))
        memory.look(process_ids)
        for rank in pending:
            rank.listen(memory, process_ids)
        if deadline is None and any(map(has_failed, ranks)):
            deadline = time.monotonic() + _SECONDS_FOR_A_DEATH


def _end(ranks: list[Rank[Any]], all_well: bool) -> None:
    """End all processes: those that ended well leave in order, the others are not asked."""
    for rank in ranks:
        rank.connection.close()  # which a rank that has told waits for
        if not all_well:
            rank.process.terminate()
    deadline = time.monotonic() + (_SECONDS_TO_LEAVE if all_well else SECONDS_TO_END)
    for rank in ranks:
        rank.process.join(max(0.0, deadline - time.monotonic()))
        if rank.process.is_alive():
            rank.process.kill()
            rank.process.join()
        rank.process.close()
