"""Running a function on many payloads in worker processes of this machine, safe against whatever happens in them.

Workers come from a fork server that has imported the heavy modules once: the first is ready after the import, the
next ones in hundredths of a second. Functions and payloads travel by cloudpickle, so those of a notebook, of
``python -c`` or of an unguarded script work; the main script is not run again in the workers.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import queue
import signal
import time
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Generic

import cloudpickle  # type: ignore[import-untyped]
from pebble import ProcessExpired, ProcessPool

from trainoff.benchmarks.executors.gpu_slots import GpuSlots, device_groups, visible_devices
from trainoff.benchmarks.executors.memory_limit import MemoryLimit
from trainoff.benchmarks.executors.memory_watch import SECONDS_BETWEEN_LOOKS, MemoryWatch
from trainoff.benchmarks.executors.outcome import Outcome, Payload, Raised, Result, TimedOut, WorkerDied
from trainoff.benchmarks.executors.worker_processes import UNSEEN, WorkerContext, start_fork_server
from trainoff.benchmarks.executors.worker_side import Answer, Setup, get_ready, run
from trainoff.errors import UserError

PRELOAD = ("torch", "lightning")

_MAX_BREAKS = 3  # of the pool, without an outcome between them


@dataclass
class _Item:
    key: str
    payload: bytes
    places: int = 1
    sent: float = 0.0


class LocalExecutor(Generic[Payload, Result]):
    """Worker processes that run one function; use it in a ``with`` statement.

    They start when outcomes are first asked for, and are used for many payloads. Leaving the block ends them at
    once, whatever they are doing; what has not been yielded by then is dropped. When this process dies, in whatever
    way, they die with it.

    Args:
        function: Called with one payload; may be a local function or a lambda.
        workers: Processes at work at the same time.
        time_limit: Seconds for one payload, to about 0.2 s; None for no limit.
        preload: Modules that the fork server imports before its first worker.
        threads: Threads of torch and other numerical libraries in each worker.
        memory_limit: Bytes that a worker and its descendants may hold together, looked at five times a second; one
            that holds more is ended. Linux only. None for no limit.
        gpus: GPUs of its own for each worker. None: each sees one, which several share where there are more workers.

    Raises:
        UserError: Where a number makes no sense, a module to preload is not installed, or there are too few GPUs.
    """

    def __init__(
        self,
        function: Callable[[Payload], Result],
        workers: int,
        time_limit: float | None = None,
        preload: Sequence[str] = PRELOAD,
        threads: int = 1,
        memory_limit: int | None = None,
        gpus: int | None = None,
    ) -> None:
        for name, value in (("workers", workers), ("threads", threads)):
            if value < 1:
                raise UserError(f"{value} is too few; at least 1", name)
        if time_limit is not None and not time_limit > 0:
            raise UserError(f"{time_limit} is no time; give seconds, or None for no limit", "time_limit")
        for module in preload:
            if find_spec(module.partition(".")[0]) is None:
                raise UserError(f"no module named '{module}' is installed", "preload")
        self._function = _pickled(function, "the function")
        self._workers = workers
        self._time_limit = time_limit
        self._preload = tuple(preload)
        self._threads = threads
        self._waiting: deque[_Item] = deque()
        self._running: dict[concurrent.futures.Future[Answer], _Item] = {}
        self._finished: queue.SimpleQueue[concurrent.futures.Future[Answer]] = queue.SimpleQueue()
        self._context: WorkerContext | None = None
        self._pool: ProcessPool | None = None
        self._breaks = 0
        self._heard = False  # of any worker yet
        self._notices: set[str] = set()
        self._memory = MemoryWatch()
        self._limit = None if memory_limit is None else MemoryLimit(memory_limit)
        groups = device_groups(visible_devices(), workers, gpus)
        self._slots = GpuSlots(uuid.uuid4().hex, groups) if groups else None

    @property
    def at_once(self) -> int:
        """Workers."""
        return self._workers

    @property
    def window(self) -> int:
        """Enough for every worker to find the next payload waiting."""
        return 2 * self._workers + 2

    def __enter__(self) -> LocalExecutor[Payload, Result]:
        """Check that this system has a fork server.

        Raises:
            UserError: On Windows.
        """
        if "forkserver" not in multiprocessing.get_all_start_methods():
            raise UserError("local workers need a fork server, which Windows lacks; run under WSL")
        self._context = WorkerContext(self._preload, self._threads)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._stop_pool()
        finally:
            self._context = None
            self._waiting.clear()
            self._running.clear()

    def submit(self, key: str, payload: Payload, places: int = 1) -> None:
        """Add a payload; it is sent to a worker when one is free and outcomes are being asked for.

        Args:
            key: Comes back in the outcome.
            payload: Whatever cloudpickle can send.
            places: How many of the workers' places it takes, as it starts so many processes; one that takes more than
                there are runs alone.

        Raises:
            UserError: Where it cannot.
        """
        self._waiting.append(_Item(key, _pickled(payload, key), places))

    def completed(self) -> Iterator[Outcome[Result]]:
        """Each outcome as it comes, until nothing is pending; more may be submitted meanwhile.

        The next payload is sent before an outcome is yielded, so that the worker does not wait for the caller.

        Raises:
            UserError: Where a worker is over the memory limit before it takes a payload.
            RuntimeError: Where workers keep dying before they take one.
        """
        while self._waiting or self._running:
            self._send()
            outcome = self._next()
            if outcome is not None:
                self._breaks = 0
                self._send()
                yield outcome

    def _send(self) -> None:
        while self._waiting and self._has_room(self._waiting[0]):
            item = self._waiting[0]  # taken off once it is sent: Ctrl-C may come in between
            try:
                future = self._started_pool().schedule(run, args=(item.payload,), timeout=self._time_limit)
            except RuntimeError:  # a BrokenProcessPool among them: no worker could be started, or the pool ended
                self._recover()
                continue
            item.sent = time.monotonic()
            self._running[future] = self._waiting.popleft()
            future.add_done_callback(self._finished.put)

    def _has_room(self, item: _Item) -> bool:
        taken = sum(running.places for running in self._running.values())
        return not self._running or taken + item.places <= self._workers

    def _started_pool(self) -> ProcessPool:
        if self._context is None:
            raise TypeError("outcomes are asked for inside `with executor:`")
        if self._pool is None:
            address = start_fork_server(self._context.preload, self._threads)
            environment = dict(os.environ)
            setup = Setup(self._function, self._preload, self._threads, environment, self._slots, address)
            self._pool = ProcessPool(self._workers, initializer=get_ready, initargs=(setup,), context=self._context)
        return self._pool

    def _next(self) -> Outcome[Result] | None:
        """The next outcome; None where a moment went by without one, or the pool had to be started anew."""
        self._memory.look(self._process_ids())
        if self._limit is not None:
            self._limit.enforce(self._process_ids())
        try:
            future = self._finished.get(timeout=SECONDS_BETWEEN_LOOKS)
        except queue.Empty:
            if self._pool is not None and not self._pool.active:
                self._recover()
            return None
        if future not in self._running:  # of a pool that broke
            return None
        if isinstance(future.exception(), BrokenProcessPool):
            self._recover()
            return None
        item = self._running.pop(future)
        error = future.exception()
        seconds = time.monotonic() - item.sent
        if error is None:
            return self._outcome(item.key, future.result())
        if isinstance(error, concurrent.futures.TimeoutError):
            return Outcome(item.key, None, TimedOut(self._time_limit or seconds), seconds)
        if isinstance(error, ProcessExpired):
            return Outcome(item.key, None, self._death(error), seconds)
        return Outcome(item.key, None, Raised(error, ""), seconds)

    def _outcome(self, key: str, answer: Answer) -> Outcome[Result]:
        self._heard = True
        for notice in answer.notices:
            if notice not in self._notices:
                self._notices.add(notice)
                warnings.warn(notice, RuntimeWarning, stacklevel=2)
        if answer.result is None:
            return Outcome(key, None, Raised(_unpickled_error(answer), answer.traceback), answer.seconds)
        try:
            return Outcome(key, cloudpickle.loads(answer.result), None, answer.seconds)
        except Exception as error:
            return Outcome(key, None, Raised(error, ""), answer.seconds)

    def _death(self, error: ProcessExpired) -> WorkerDied:
        code: int = error.exitcode
        if self._limit is not None and (why := self._limit.why_ended(error.pid)):
            return WorkerDied(code, "SIGKILL", why)
        if code == UNSEEN:
            return WorkerDied(None)
        if code >= 0:
            return WorkerDied(code % 256)  # see WorkerProcess.exitcode
        if code == -signal.SIGKILL:
            return WorkerDied(code, "SIGKILL", self._memory.why_killed(self._process_ids()))
        return WorkerDied(code, _signal_name(-code))

    def _process_ids(self) -> list[int]:
        return [] if self._context is None else self._context.process_ids()

    def _recover(self) -> None:
        """Put back what the broken pool had not finished, for a new pool.

        pebble gives up the whole pool when a worker dies while no task runs (killed from outside), and when no
        worker can be started.
        """
        self._stop_pool()
        if self._limit is not None and not self._heard and (why := self._limit.why_ended_any()):
            raise UserError(f"too little: a worker was ended before its first trial, as {why}", "memory_limit")
        self._breaks += 1
        if self._breaks > _MAX_BREAKS:
            raise RuntimeError("worker processes keep dying before they take any work; what they print may say why")
        time.sleep(0.1 * self._breaks)  # a fork server that is just dying still passes for a living one
        if not self._heard and self._context is not None:
            # A module whose import fails with anything but ImportError ends the fork server. Imported by a worker,
            # it fails with a traceback that reaches the caller.
            self._context.preload = ()
        for future in reversed(list(self._running)):
            if not future.done() or isinstance(future.exception(), BrokenProcessPool):
                self._waiting.appendleft(self._running.pop(future))

    def _stop_pool(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None and self._context is not None:
            pool.stop()  # type: ignore[no-untyped-call]
            self._context.end_all()
            pool.join()


def _pickled(thing: Any, name: str) -> bytes:
    try:
        return bytes(cloudpickle.dumps(thing))
    except Exception as error:
        raise UserError(f"cannot be sent to a worker process: {' '.join(str(error).split())}", name) from error


def _unpickled_error(answer: Answer) -> BaseException:
    try:
        error = cloudpickle.loads(answer.error)
    except Exception:  # many exceptions cannot be built again from their arguments
        error = None
    return error if isinstance(error, BaseException) else RuntimeError(answer.error_text)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
