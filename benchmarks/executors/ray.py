"""Running a function on many payloads over a Ray cluster: one task a payload, on whichever machine has room.

Ray schedules; on its machine each payload runs as the local executor runs it (:mod:`.node_side`). What a lost machine
had not finished is run again, and nothing else is. Nothing of the working directory is uploaded: the machines have
trainoff installed, and classes that they cannot import travel by cloudpickle.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Generic

import cloudpickle  # type: ignore[import-untyped]

from trainoff.benchmarks.executors import node_side
from trainoff.benchmarks.executors.outcome import Outcome, Payload, Raised, Result, WorkerDied
from trainoff.benchmarks.executors.resources import Resources
from trainoff.errors import UserError

_MOST_PENDING = 1000  # an autoscaler sees the demand; a hundred thousand tasks would only take memory
_MOST_LOSSES = 5  # of one payload
_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_TO_ANSWER = 10.0


class RayExecutor(Generic[Payload, Result]):
    """Tasks of a Ray cluster that run one function; use it in a ``with`` statement.

    Args:
        function: Called with one payload; may be a local function or a lambda.
        resources: Of each payload.
        address: Of a cluster (``auto``, ``host:port``). None: that of ``RAY_ADDRESS``; without it Ray is started on
            this machine, and ended with the block.
        most: Payloads that may run at the same time; None for as many as the cluster has room for.

    Raises:
        UserError: Where ray is not installed.
    """

    def __init__(
        self,
        function: Callable[[Payload], Result],
        resources: Resources,
        address: str | None = None,
        most: int | None = None,
    ) -> None:
        self._ray = _ray()
        self._function = function
        self._resources = resources
        self._address = address
        self._most = most
        self._waiting: deque[tuple[str, bytes, int]] = deque()
        self._running: dict[Any, tuple[str, bytes, int, float]] = {}
        self._losses: dict[str, int] = {}
        self._run: Any = None
        self._at_once = 0

    @property
    def at_once(self) -> int:
        """Payloads that the cluster had room for when the block was entered, or as many as are allowed."""
        return self._at_once

    @property
    def window(self) -> int:
        """What is kept in Ray's queue."""
        return self._most or max(_MOST_PENDING, 2 * self._at_once)

    def __enter__(self) -> RayExecutor[Payload, Result]:
        """Connect.

        Raises:
            UserError: Where there is no cluster at the address, no machine is large enough for one payload, or this
                process is connected to Ray already, with another address.
        """
        self._connect()
        try:
            self._at_once = self._room()
            work = self._ray.put(node_side.Work.of(self._function, self._resources))
            options = {"num_cpus": self._resources.cpus, "num_gpus": self._resources.gpus or 0, "max_retries": 0}
            if self._resources.memory_limit is not None:
                options["memory"] = self._resources.memory_limit
            # Ray ends a worker that had GPUs after each task: with 0 calls it is kept, as others are.
            task = self._ray.remote(max_calls=0, **options)(_run_pickled)
            self._run = lambda key, payload, places: task.options(
                num_cpus=places * options["num_cpus"], num_gpus=places * options["num_gpus"]
            ).remote(work, key, payload)
        except BaseException:
            self._ray.shutdown()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for reference in self._running:
            with contextlib.suppress(Exception):
                self._ray.cancel(reference, force=True)
        self._waiting.clear()
        self._running.clear()
        self._run = None
        self._ray.shutdown()

    def submit(self, key: str, payload: Payload, places: int = 1) -> None:
        """As :meth:`.Executor.submit`; all places are on one machine."""
        try:
            self._waiting.append((key, bytes(cloudpickle.dumps(payload)), places))
        except Exception as error:
            raise UserError(f"cannot be sent to a worker: {' '.join(str(error).split())}", key) from error

    def completed(self) -> Iterator[Outcome[Result]]:
        """As :meth:`.Executor.completed`."""
        if self._run is None:
            raise TypeError("outcomes are asked for inside `with executor:`")
        while self._waiting or self._running:
            while self._waiting and len(self._running) < self.window:
                key, payload, places = self._waiting[0]
                self._running[self._run(key, payload, places)] = (key, payload, places, time.monotonic())
                self._waiting.popleft()
            # In a few calls, however many are pending: one call goes over all of them.
            ready, _ = self._ray.wait(
                list(self._running), num_returns=len(self._running), timeout=0.0, fetch_local=False
            )
            if not ready:
                ready, _ = self._ray.wait(list(self._running), timeout=_SECONDS_BETWEEN_LOOKS, fetch_local=False)
            for reference in ready:
                outcome = self._outcome(reference)
                if outcome is not None:
                    yield outcome

    def _outcome(self, reference: Any) -> Outcome[Result] | None:
        """What became of a task; None where its machine was lost, and it waits again."""
        key, payload, places, sent = self._running[reference]
        errors = self._ray.exceptions
        failure: WorkerDied | Raised
        try:
            outcome: Outcome[Result] = node_side.unpacked(cloudpickle.loads(self._ray.get(reference)))
            del self._running[reference]
            self._losses.pop(key, None)
            return outcome
        except errors.OutOfMemoryError as error:
            failure = WorkerDied(-signal.SIGKILL, "SIGKILL", " ".join(str(error).split())[:300])
        except errors.RayTaskError as error:  # of our own code, or of what cannot be unpickled here or there
            cause = error.cause if isinstance(getattr(error, "cause", None), Exception) else RuntimeError(str(error))
            failure = Raised(cause, str(error))
        except errors.RayError:
            self._losses[key] = self._losses.get(key, 0) + 1
            if self._losses[key] <= _MOST_LOSSES:
                del self._running[reference]
                self._waiting.appendleft((key, payload, places))
                return None
            failure = WorkerDied(None)
        except Exception as error:
            failure = Raised(error, "")
        del self._running[reference]
        return Outcome(key, None, failure, time.monotonic() - sent)

    def _connect(self) -> None:
        if self._ray.is_initialized():
            raise UserError("this process is connected to Ray already; call ray.shutdown() first", "executor")
        _check_address(self._address or os.environ.get("RAY_ADDRESS") or "")
        # Neither statistics sent to Ray's makers, nor the working directory packed up under `uv run`.
        with _environment(RAY_USAGE_STATS_ENABLED="0", RAY_ENABLE_UV_RUN_RUNTIME_ENV="0"), _own_signals(), _quiet():
            try:
                self._ray.init(
                    address=self._address or os.environ.get("RAY_ADDRESS") or "local",
                    include_dashboard=None if self._has_cluster() else False,
                    log_to_driver=False,
                    configure_logging=False,
                )
            except (ConnectionError, ValueError, RuntimeError, OSError) as error:
                self._ray.shutdown()
                if not self._has_cluster():
                    raise UserError(f"Ray cannot be started here: {_first_line(error)}", "executor") from error
                where = self._address or os.environ.get("RAY_ADDRESS")
                raise UserError(f"no Ray cluster answers at '{where}': {_first_line(error)}", "--address") from error

    def _has_cluster(self) -> bool:
        return bool(self._address or os.environ.get("RAY_ADDRESS"))

    def _room(self) -> int:
        needs = {"CPU": self._resources.cpus, "GPU": self._resources.gpus, "memory": self._resources.memory_limit}
        needed = {name: value for name, value in needs.items() if value}
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        room = sum(min(int(node.get(name, 0) // value) for name, value in needed.items()) for node in nodes)
        if not room:
            raise UserError(
                f"a trial asks for {', '.join(f'{value:g} {name}' for name, value in needed.items())}; no machine of "
                f"the Ray cluster has that ({len(nodes)} there)", "executor",
            )  # fmt: skip
        return min(room, self._most or room)


def _run_pickled(work: node_side.Work, key: str, payload: bytes) -> bytes:
    return bytes(cloudpickle.dumps(node_side.run_one(work, key, payload)))


def _ray() -> Any:
    with _environment(RAY_USAGE_STATS_ENABLED="0", RAY_ENABLE_UV_RUN_RUNTIME_ENV="0"):
        try:
            import ray
        except ImportError as error:
            raise UserError("ray is not installed; pip install 'trainoff[ray]'", "--executor ray") from error
    return ray


def _check_address(address: str) -> None:
    """Whether anything listens there: Ray itself goes on trying for five minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"no Ray cluster answers at '{address}': {error}", "--address") from error


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray puts a handler of its own in place of ours."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Ray says at each start which of its defaults it has taken."""
    logger = logging.getLogger("ray")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
