"""Starting and ending the worker processes of the local executor, in the way that pebble's pool needs it."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
import types
import weakref
from collections.abc import Iterator
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any

from trainoff.benchmarks.executors import worker_side

SECONDS_TO_END = 0.5  # after SIGTERM, before SIGKILL: time to end a DataLoader's workers
UNSEEN = 257  # no process can end with this exit code: the fork server died, and a worker's end is told by it
_SECONDS_TO_TELL = 0.2

# Starting changes what the whole process sees (environment, main module), so one start at a time.
_starting = threading.RLock()


class ServedProcess(BaseProcess):
    """A process of the fork server that does not import the main module again."""

    _start_method = "forkserver"

    @staticmethod
    def _Popen(process: BaseProcess) -> Any:  # noqa: N802 (multiprocessing's name)
        # Here: importing it fails where there is no fork server, which the executor says in its own words.
        from trainoff.benchmarks.executors.worker_popen import WorkerPopen

        return WorkerPopen(process)

    def start(self) -> None:
        """Start it, from any thread."""
        with _starting, _main_without_origin():
            super().start()


class WorkerProcess(ServedProcess):
    """A worker of pebble's pool, with a death that pebble can place.

    pebble asks for the task of a dead worker in one thread and reads the workers' messages in another. Told of a
    death before it has read "I take this task", it loses the task and waits for ever: a death is told late.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._ending = False
        self._seen_dead: float | None = None

    def __getstate__(self) -> dict[str, Any]:
        state = dict(vars(self))
        state["_args"] = bytes(ForkingPickler.dumps(state["_args"]))
        return state

    def run(self) -> None:
        """What the new process does."""
        state = vars(self)
        try:
            state["_args"] = ForkingPickler.loads(state["_args"])
        except FileNotFoundError:
            # The pool's semaphores are gone: it was stopped (Ctrl-C) while the fork server was still importing.
            # Unpickled by multiprocessing itself, with the process, they would print a traceback.
            return
        super().run()

    def is_alive(self) -> bool:
        """Whether it lives, or died of itself less than 0.2 s ago."""
        if super().is_alive():
            return True
        if self._seen_dead is None:
            self._seen_dead = time.monotonic()
            if super().exitcode == UNSEEN and self.pid is not None:
                # Only the fork server died: the worker may still be at work, with nobody to hear it.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
        return not self._ending and time.monotonic() - self._seen_dead < _SECONDS_TO_TELL

    @property
    def exitcode(self) -> int | None:
        """The exit code, or :data:`UNSEEN`; 256 for 0.

        pebble takes 0 for the end of an idle worker, and would lose a task.
        """
        code = super().exitcode
        return 256 if code == 0 else code

    def ask_to_end(self) -> None:
        """Send SIGTERM."""
        self._ending = True
        super().terminate()

    def terminate(self) -> None:
        """End it within half a second, whatever it is doing."""
        self.ask_to_end()
        if not multiprocessing.connection.wait([self.sentinel], SECONDS_TO_END):
            self.kill()


class WorkerContext(BaseContext):
    """What pebble takes for a multiprocessing context: makes worker processes and knows those that live.

    Args:
        preload: Modules that the fork server imports, if it is not running yet.
        threads: Threads of numerical libraries.
    """

    _name = "forkserver"

    def __init__(self, preload: tuple[str, ...], threads: int) -> None:
        self.preload = preload
        self._threads = threads
        self._processes: weakref.WeakSet[WorkerProcess] = weakref.WeakSet()
        self._lock = threading.Lock()

    def Process(self, **arguments: Any) -> WorkerProcess:  # noqa: N802 (likewise)
        """A worker process, not started; the fork server is."""
        start_fork_server(self.preload, self._threads)
        process = WorkerProcess(**arguments)
        with self._lock:
            self._processes.add(process)
        return process

    def process_ids(self) -> list[int]:
        """Of all workers that were started and are not forgotten yet; some may have ended."""
        with self._lock:
            return [process.pid for process in self._processes if process.pid is not None]

    def end_all(self) -> None:
        """End every worker at the same time, within half a second."""
        with self._lock:
            processes = [process for process in self._processes if process.pid is not None]
        for process in processes:
            process.ask_to_end()
        deadline = time.monotonic() + SECONDS_TO_END
        for process in processes:
            if not multiprocessing.connection.wait([process.sentinel], max(0.0, deadline - time.monotonic())):
                process.kill()


def start_fork_server(preload: tuple[str, ...], threads: int) -> str:
    """Start Python's one fork server unless it runs already; what it then lacks, each worker mends for itself.

    Returns:
        Where it listens.
    """
    from multiprocessing import forkserver, resource_tracker

    from trainoff.benchmarks.executors.fork_server_sharing import fork_server_address

    with _starting, _thread_variables(threads), _main_without_origin():
        # Ours first: a worker is pickled as an object of this package.
        multiprocessing.get_context("forkserver").set_forkserver_preload([worker_side.__name__, __name__, *preload])
        # Ctrl-C reaches the whole foreground group. A fork server that is still importing would die of it: it
        # starts with the signal blocked, which workers undo once they ignore it.
        resource_tracker.ensure_running()  # first: the fork server starts it, which takes the block away again
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return fork_server_address()


@contextlib.contextmanager
def _thread_variables(threads: int) -> Iterator[None]:
    # They count when a library is loaded, which happens in the fork server: workers would set them too late.
    before = {name: os.environ.get(name) for name in worker_side.THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(worker_side.THREAD_VARIABLES, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _MainWithoutOrigin(types.ModuleType):
    """The main module, but for where it came from: other threads still find its classes."""

    def __init__(self, main: types.ModuleType) -> None:
        super().__init__("__main__")
        vars(self)["_main"] = main

    def __getattr__(self, name: str) -> Any:
        if name == "__file__":
            raise AttributeError(name)
        return getattr(vars(self)["_main"], name)


@contextlib.contextmanager
def _main_without_origin() -> Iterator[None]:
    # multiprocessing tells each new process to run the file of __main__ again, by its path or its module's name:
    # an unguarded script would start itself, and one from stdin has no file. Nothing of __main__ is needed, since
    # what is sent comes by cloudpickle. Replaced, not stripped: the script's own __file__ stays as it is.
    main = sys.modules["__main__"]
    if isinstance(main, _MainWithoutOrigin):
        yield
        return
    sys.modules["__main__"] = _MainWithoutOrigin(main)
    try:
        yield
    finally:
        sys.modules["__main__"] = main
