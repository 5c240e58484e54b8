"""One trial on several devices: a process for each rank, started and watched by the worker that the trial was given to.

Each rank runs the whole trial, as under torchrun, and Lightning's strategies join them. The worker keeps the store by
which they find one another, on a port that the system chose, and waits: whatever ends one rank ends the others at
once, so that no process and no port outlives the trial.
"""

from __future__ import annotations

import contextlib
import multiprocessing.connection
import os
import signal
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any, cast

import cloudpickle  # type: ignore[import-untyped]
import torch
import torch.distributed

from trainoff.benchmarks.engines.trainer import Surroundings, train
from trainoff.benchmarks.environment import describe
from trainoff.benchmarks.executors.fork_server_sharing import leave_fork_server
from trainoff.benchmarks.executors.memory_watch import SECONDS_BETWEEN_LOOKS, MemoryWatch
from trainoff.benchmarks.executors.worker_processes import (
    SECONDS_TO_END,
    UNSEEN,
    ServedProcess,
    start_fork_server,
)
from trainoff.benchmarks.executors.worker_side import Answer, Setup, get_ready, run
from trainoff.benchmarks.record import RANK_DIED, RANK_KILLED, Failure, Quality, Record, Status
from trainoff.benchmarks.trial import Trial
from trainoff.errors import UserError
from trainoff.registry import provide_classes

_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PRELOAD = ("trainoff.benchmarks.worker",)
_ADDRESS = "127.0.0.1"
# A rank's death reaches its peers, as an error of their next collective, a moment before or after it reaches the
# worker: so long a peer's error waits for it.
_SECONDS_FOR_A_DEATH = 0.5
_SECONDS_TO_LEAVE = 10.0


def train_on_ranks(trial: Trial, surroundings: Surroundings, classes: Mapping[str, Any], ranks: int) -> Record:
    """Train one trial on several processes of this machine.

    Args:
        trial: What to train.
        surroundings: What goes into the record's environment.
        classes: Classes that cannot be imported there, by class path.
        ranks: How many processes.

    Returns:
        The record of rank 0; where a rank failed, that of the one that failed first, and its reason names it.

    Raises:
        UserError: For a mistake that the user can mend.
    """
    function = cloudpickle.dumps(_run_rank)
    payload = cloudpickle.dumps((trial, surroundings, dict(classes)))
    store = torch.distributed.TCPStore(_ADDRESS, 0, is_master=True, wait_for_workers=False)
    started: list[_Rank] = []
    try:
        for number in range(ranks):
            started.append(_Rank(number, function, payload, _environment(number, ranks, store.port)))
        _wait(started)
        return _record(trial, surroundings, started)
    finally:
        _end(started)
        del store  # and with it its port


def _run_rank(payload: tuple[Trial, Surroundings, dict[str, Any]]) -> tuple[Record, float]:
    """What each rank does; beside its record the moment of its end, on the machine's one monotonic clock."""
    trial, surroundings, classes = payload
    provide_classes(classes)
    record = train(trial, surroundings)
    return record, time.monotonic()


def _serve(connection: Connection, setup: Setup, payload: bytes) -> None:
    """The life of a rank's process.

    Once it has told how it went, it waits: its end would be an error to the others, which may not be as far.
    """
    get_ready(setup)
    connection.send(run(payload))
    with contextlib.suppress(EOFError, OSError):
        connection.recv()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


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


class _Rank:
    """One rank's process, and how it ended.

    Args:
        number: From 0.
        function: What it runs, by cloudpickle.
        payload: On what, likewise.
        environment: Its environment variables.
    """

    def __init__(self, number: int, function: bytes, payload: bytes, environment: dict[str, str]) -> None:
        self.number = number
        self.connection, theirs = multiprocessing.Pipe()
        threads = torch.get_num_threads()
        setup = Setup(function, _PRELOAD, threads, environment)
        try:
            self.process = _started((theirs, setup, payload), threads)
        finally:
            theirs.close()
        self.record: Record | None = None
        self.error: BaseException | None = None
        self.error_traceback = ""
        self.exitcode: int | None = None
        self.ended_at: float | None = None
        self.memory = ""

    @property
    def is_dead(self) -> bool:
        """Whether its process ended before it could tell how it went."""
        return self.exitcode is not None

    @property
    def has_failed(self) -> bool:
        """Whether it ended otherwise than well."""
        return self.ended_at is not None and (self.record is None or self.record.status != "ok")

    def listen(self, memory: MemoryWatch, process_ids: list[int]) -> None:
        """Take its answer or its end, where one of them has come."""
        try:
            if self.connection.poll():
                self._take(self.connection.recv())
                return
        except (EOFError, OSError):  # it died
            self.process.join(SECONDS_TO_END)
        if not self.process.is_alive():
            self.exitcode, self.ended_at = self.process.exitcode or 0, time.monotonic()
            if self.exitcode == -signal.SIGKILL:
                self.memory = memory.why_killed(process_ids)

    def _take(self, answer: Answer) -> None:
        self.ended_at = time.monotonic()
        if answer.result is not None:
            self.record, self.ended_at = cloudpickle.loads(answer.result)
            return
        try:
            self.error = cloudpickle.loads(answer.error)
        except Exception:  # many exceptions cannot be built again from their arguments
            self.error = RuntimeError(answer.error_text)
        self.error_traceback = answer.traceback


def _started(arguments: tuple[Any, ...], threads: int) -> ServedProcess:
    start_fork_server(_PRELOAD, threads)
    try:
        process = ServedProcess(target=_serve, args=arguments)
        process.start()
    except (ConnectionError, FileNotFoundError):  # the fork server that this worker comes from is gone
        leave_fork_server()
        start_fork_server(_PRELOAD, threads)
        process = ServedProcess(target=_serve, args=arguments)
        process.start()
    return process


def _wait(ranks: list[_Rank]) -> None:
    """Until all ranks have ended well, or one has not and its peers have had a moment to tell that they died first."""
    memory = MemoryWatch()
    process_ids = [rank.process.pid for rank in ranks if rank.process.pid is not None]
    deadline = None
    while pending := [rank for rank in ranks if rank.ended_at is None]:
        seconds = SECONDS_BETWEEN_LOOKS if deadline is None else deadline - time.monotonic()
        if seconds <= 0 or any(rank.is_dead for rank in ranks):
            return
        ends = [end for rank in pending for end in (rank.connection, rank.process.sentinel)]
        multiprocessing.connection.wait(ends, min(seconds, SECONDS_BETWEEN_LOOKS))
        memory.look(process_ids)
        for rank in pending:
            rank.listen(memory, process_ids)
        if deadline is None and any(rank.has_failed for rank in ranks):
            deadline = time.monotonic() + _SECONDS_FOR_A_DEATH


def _end(ranks: list[_Rank]) -> None:
    """End all processes: those that ended well leave in order, the others are not asked."""
    all_well = all(rank.ended_at is not None and not rank.has_failed for rank in ranks)
    for rank in ranks:
        rank.connection.close()  # which an answered rank waits for
        if not all_well:
            rank.process.terminate()
    deadline = time.monotonic() + (_SECONDS_TO_LEAVE if all_well else SECONDS_TO_END)
    for rank in ranks:
        rank.process.join(max(0.0, deadline - time.monotonic()))
        if rank.process.is_alive():
            rank.process.kill()
            rank.process.join()
        rank.process.close()


def _record(trial: Trial, surroundings: Surroundings, ranks: list[_Rank]) -> Record:
    failed = [rank for rank in ranks if rank.has_failed]
    if not failed:
        record = cast(Record, ranks[0].record)
        by_rank = [rank.record.cost.peak_memory_bytes for rank in ranks if rank.record is not None]
        record.cost.peak_memory_bytes_by_rank = by_rank
        record.cost.peak_memory_bytes = max((peak for peak in by_rank if peak is not None), default=None)
        return record
    # A death comes before the errors that it is to the others.
    first = min(failed, key=lambda rank: (not rank.is_dead, rank.ended_at))
    if isinstance(first.error, UserError):
        raise first.error
    status, failure = _failure(first)
    measured = next((rank.record for rank in [first, *ranks] if rank.record is not None), None)
    if measured is None:
        environment = describe(
            device="cpu", devices=len(ranks), git=surroundings.git, trials_beside=surroundings.trials_beside
        )
        quality = Quality(trial.task.metric, trial.task.mode)
        return Record(trial=trial.facts(), status=status, error=failure, quality=quality, environment=environment)
    measured.status, measured.error = status, failure
    return measured


def _failure(rank: _Rank) -> tuple[Status, Failure]:
    name = f"rank {rank.number}"
    if rank.record is not None:
        assert rank.record.error is not None
        error = rank.record.error
        return rank.record.status, Failure(error.type, f"{name}: {error.message}", error.traceback)
    if rank.error is not None:
        message = " ".join(str(rank.error).split())
        return "crashed", Failure(type(rank.error).__name__, f"{name}: {message}", rank.error_traceback)
    code = rank.exitcode or 0
    if rank.memory:
        return "out_of_memory", Failure(RANK_DIED, f"{name} was ended by SIGKILL: {rank.memory}")
    if code == UNSEEN or -code in _FROM_OUTSIDE:
        by = "from outside" if code == UNSEEN else f"by {_signal_name(-code)}"
        return "crashed", Failure(RANK_KILLED, f"{name} was ended {by}")
    by = _signal_name(-code) if code < 0 else f"exit status {code}"
    return "crashed", Failure(RANK_DIED, f"{name} was ended by {by}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
