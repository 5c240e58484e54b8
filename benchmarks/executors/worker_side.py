"""What happens inside a worker process of the local executor: it gets ready once, then runs payload after payload.

Only bytes and plain values cross the process boundary, so that nothing that pickles badly can break the pool.
"""

from __future__ import annotations

import importlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from trainoff.benchmarks.executors.gpu_slots import VISIBLE, GpuSlots

# Read by OpenMP, MKL, OpenBLAS, numexpr and Accelerate when they are first loaded.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


@dataclass(frozen=True)
class Setup:
    """What a worker needs before its first payload.

    Args:
        function: The callable, by cloudpickle.
        preload: Modules that the fork server should have imported.
        threads: Threads of numerical libraries.
        environment: The parent's environment; the fork server's may be older.
        gpus: Where it takes its GPUs from; None where it sees those that the parent sees.
        fork_server: Where the fork server listens, for a worker that needs processes of its own; empty where unknown.
    """

    function: bytes
    preload: tuple[str, ...]
    threads: int
    environment: dict[str, str]
    gpus: GpuSlots | None = None
    fork_server: str = ""


@dataclass(frozen=True)
class Answer:
    """What one payload gave.

    Args:
        seconds: Seconds in the function.
        result: Its result by cloudpickle; None where it raised.
        error: The exception by cloudpickle; empty where it cannot be pickled.
        error_text: The exception in one line.
        traceback: Its traceback.
        notices: What the user should know about this worker.
    """

    seconds: float
    result: bytes | None = None
    error: bytes = b""
    error_text: str = ""
    traceback: str = ""
    notices: tuple[str, ...] = ()


_function: Callable[[Any], Any] | None = None
_failure: BaseException | None = None  # why this worker could not get ready
_notices: tuple[str, ...] = ()


def get_ready(setup: Setup) -> None:
    """Prepare this worker; a failure is told with every payload (raised here, it would end the whole pool)."""
    global _function, _failure, _notices
    _end_with_parent()
    signal.signal(signal.SIGTERM, _end_by_signal)
    # The fork server was started with SIGINT blocked; by now pebble has the worker ignore it.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        notices = _adopt_environment(setup)
        if setup.gpus is not None:
            os.environ[VISIBLE] = setup.gpus.take()  # before anything wakes CUDA, which reads it once
        notices += _import_missing(setup.preload)
        if "torch" in sys.modules:
            # Before any work: a forked child must not use the thread pool that its parent may have started.
            sys.modules["torch"].set_num_threads(setup.threads)
        if setup.fork_server:
            # Here: it cannot be imported where there is no fork server.
            from trainoff.benchmarks.executors.fork_server_sharing import join_fork_server

            join_fork_server(setup.fork_server)
        _notices = tuple(notices)
        _function = cloudpickle.loads(setup.function)
    except BaseException as error:
        _failure = error


def run(payload: bytes) -> Answer:
    """Run the executor's function on one payload."""
    start = time.perf_counter()
    try:
        if _failure is not None:
            raise _failure
        assert _function is not None
        unpickled = cloudpickle.loads(payload)
        start = time.perf_counter()
        made = _function(unpickled)
        seconds = time.perf_counter() - start
        return Answer(seconds, cloudpickle.dumps(made), notices=_notices)
    except BaseException as error:
        return _answer_with(error, time.perf_counter() - start)


def _answer_with(error: BaseException, seconds: float) -> Answer:
    try:
        pickled = cloudpickle.dumps(error)
    except Exception:
        pickled = b""
    line = traceback.format_exception_only(type(error), error)[-1].strip()
    return Answer(seconds, None, pickled, line, traceback.format_exc(), _notices)


def _adopt_environment(setup: Setup) -> list[str]:
    wanted = str(setup.threads)
    inherited = os.environ.get("OMP_NUM_THREADS")
    os.environ.clear()
    os.environ.update(setup.environment)
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, wanted))
    if inherited == wanted:
        return []
    return [
        f"the fork server was already running with OMP_NUM_THREADS={inherited}: torch uses {wanted} threads a worker, "
        "other libraries may not; restart Python for times that count"
    ]


def _import_missing(preload: tuple[str, ...]) -> list[str]:
    missing = [name for name in preload if name not in sys.modules]
    for name in missing:
        importlib.import_module(name)
    if not missing:
        return []
    return [
        f"the fork server did not preload {', '.join(missing)} (it was already running, or the import failed in it): "
        "each worker imports it, which is slower"
    ]


def _end_with_parent() -> None:
    """Let this process end as soon as its parent does, in whatever way and whatever is going on here."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait(sentinel: int) -> None:
        multiprocessing.connection.wait([sentinel])
        _kill_children()
        os._exit(1)

    threading.Thread(target=wait, args=(parent.sentinel,), name="lifeline", daemon=True).start()


def _end_by_signal(number: int, frame: object) -> None:
    # pebble's own handler ends with exit status 15, which does not tell that it was a signal.
    _kill_children()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _kill_children() -> None:
    for child in multiprocessing.active_children():  # a DataLoader's workers
        child.kill()
