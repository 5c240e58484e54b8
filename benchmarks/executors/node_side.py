"""What happens on a machine of a cluster: payloads run in a child process there, as the local executor runs them.

So a hang, a segmentation fault or too much memory ends the child only, and is told in the same words everywhere.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from trainoff.benchmarks.executors.gpu_slots import VISIBLE, visible_devices
from trainoff.benchmarks.executors.local import LocalExecutor
from trainoff.benchmarks.executors.outcome import Outcome, Raised
from trainoff.benchmarks.executors.resources import Resources

# A job script's variables: with them Lightning takes a trial for one task of a distributed training.
_OF_JOBS = ("SLURM_", "SUBMITIT_", "PMI_", "PMIX_")


@dataclass(frozen=True)
class Work:
    """What payloads are run with.

    Args:
        function: By cloudpickle.
        resources: Of each payload.
        folder: The working directory where the run was started; used where this machine has it too.
        paths: Where modules are imported from there; those that this machine has are searched last.
    """

    function: bytes
    resources: Resources
    folder: str
    paths: tuple[str, ...]

    @staticmethod
    def of(function: Any, resources: Resources) -> Work:
        """From here."""
        return Work(bytes(cloudpickle.dumps(function)), resources, os.getcwd(), tuple(filter(None, sys.path)))

    def open(self) -> LocalExecutor[bytes, bytes]:
        """A worker of this machine for one payload at a time, to be entered; payloads and results are pickled."""
        self._settle()
        needs = self.resources
        gpus = len(visible_devices()) if needs.gpus else 0
        return LocalExecutor(
            _Pickled(self.function),
            workers=1,
            time_limit=needs.time_limit,
            preload=needs.preload,
            threads=needs.cpus,
            memory_limit=needs.memory_limit,
            gpus=gpus,
        )

    def _settle(self) -> None:
        if os.path.isdir(self.folder):
            os.chdir(self.folder)
        sys.path += [path for path in self.paths if path not in sys.path and os.path.exists(path)]
        for name in [name for name in os.environ if name.startswith(_OF_JOBS)]:
            del os.environ[name]


class _Pickled:
    """The function on pickled payloads, unpickled in the child alone: this process then needs no torch of its own."""

    def __init__(self, function: bytes) -> None:
        self._pickled = function
        self._function: Any = None

    def __call__(self, payload: bytes) -> bytes:
        if self._function is None:
            self._function = cloudpickle.loads(self._pickled)
        return bytes(cloudpickle.dumps(self._function(cloudpickle.loads(payload))))


def unpacked(outcome: Outcome[bytes]) -> Outcome[Any]:
    """The outcome with its result unpickled, where it is wanted."""
    if outcome.result is None:
        return outcome
    try:
        return replace(outcome, result=cloudpickle.loads(outcome.result))
    except Exception as error:
        return replace(outcome, result=None, failure=Raised(error, ""))


_open: tuple[Work, str, contextlib.ExitStack, LocalExecutor[bytes, bytes]] | None = None


def run_one(work: Work, key: str, payload: bytes) -> Outcome[bytes]:
    """Run one payload in this process's child, which is kept for the next one.

    Args:
        work: How; another one than last time, or other GPUs, makes a new child.
        key: Comes back in the outcome.
        payload: By cloudpickle.
    """
    global _open
    gpus = os.environ.get(VISIBLE, "")
    if _open is None or _open[0] != work or _open[1] != gpus:
        close()
        with contextlib.ExitStack() as stack:
            executor = stack.enter_context(work.open())
            _open = (work, gpus, stack.pop_all(), executor)
    executor = _open[3]
    executor.submit(key, payload)
    (outcome,) = executor.completed()
    return outcome


def close() -> None:
    """End the child."""
    global _open
    if _open is not None:
        _open[2].close()
        _open = None


def run_each(work: Work, payloads: dict[str, bytes]) -> Iterator[Outcome[bytes]]:
    """Run payloads one after the other."""
    with work.open() as executor:
        for key, payload in payloads.items():
            executor.submit(key, payload)
        yield from executor.completed()
