"""Which executor runs a suite's trials, as the user says it: a name, or a mapping with the name and its options."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trainoff.benchmarks.executors.gpu_slots import visible_devices
from trainoff.benchmarks.executors.outcome import Executor, Payload, Result
from trainoff.benchmarks.executors.registry import EXECUTORS
from trainoff.benchmarks.executors.resources import Resources
from trainoff.errors import UserError, closest
from trainoff.registry import arguments_of, normalise

# What each takes; SLURM's others are sbatch's, of which there are a hundred.
_OPTIONS = {"local": ("cpus", "gpus"), "ray": ("cpus", "gpus", "address")}


def default_workers() -> int:
    """One for each processor that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class ExecutorChoice:
    """Where trials run, and with what.

    Args:
        name: Of an executor.
        workers: How many trials at a time; None for what the place has room for.
        cpus: Processors of a trial.
        gpus: GPUs of a trial; see :class:`.Resources`.
        options: Of the executor itself.
    """

    name: str = "local"
    workers: int | None = None
    cpus: int = 1
    gpus: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(given: str | Mapping[str, Any] | None, workers: int | None = None) -> ExecutorChoice:
        """From a name or a mapping; nothing is imported.

        Raises:
            UserError: For an unknown name or option, or a number that makes no sense.
        """
        choice = normalise("local" if given is None else given, "executor")
        if choice.get("name") not in EXECUTORS:
            name = str(choice.get("name", choice.get("class_path")))
            raise UserError(
                f"no executor is called '{name}'{closest(name, EXECUTORS.names())}; there are "
                f"{', '.join(EXECUTORS.names())}", "executor",
            )  # fmt: skip
        name, options = choice["name"], arguments_of(choice)
        known = _OPTIONS.get(name)
        for key in options:
            if known is not None and key not in known:
                raise UserError(
                    f"{name} takes no '{key}'{closest(key, known)}; it takes {', '.join(known)}", "executor"
                )
        cpus, gpus = options.pop("cpus", 1), options.pop("gpus", None)
        _check_count(cpus, "cpus", 1)
        if gpus is not None:
            _check_count(gpus, "gpus", 0)
        if workers is not None:
            _check_count(workers, "workers", 1)
        return ExecutorChoice(name, workers, cpus, gpus, options)

    @property
    def is_local(self) -> bool:
        """Whether all trials run on this machine."""
        return self.name == "local"

    def for_processes(self, processes: int) -> ExecutorChoice:
        """The same with a GPU for each process of a trial, where this machine has GPUs and nothing else was said.

        Args:
            processes: The most that a trial starts.
        """
        devices = visible_devices() if self.is_local and self.gpus is None and processes > 1 else []
        if not devices:
            return self
        fitting = max(min(self.local_workers(), len(devices) // processes), 1)
        return replace(self, gpus=processes, workers=self.workers or fitting)

    def local_workers(self) -> int:
        """Worker processes of this machine."""
        return self.workers or max(default_workers() // self.cpus, 1)

    def open(
        self, function: Callable[[Payload], Result], resources: Resources, payloads: int, folder: Path
    ) -> Executor[Payload, Result]:
        """The executor; to be entered.

        Args:
            function: Called with each payload.
            resources: Limits and modules; processors and GPUs are the choice's own.
            payloads: How many there will be, at most.
            folder: For files between machines.

        Raises:
            UserError: Where the executor's package is missing, or an option makes no sense to it.
        """
        needs = replace(resources, cpus=self.cpus, gpus=self.gpus)
        made: Executor[Payload, Result]
        if self.name == "ray":
            made = EXECUTORS["ray"].load()(function, needs, most=self.workers, **self.options)
        elif self.name == "slurm":
            made = EXECUTORS["slurm"].load()(function, needs, folder, self.options, most=self.workers)
        else:
            made = EXECUTORS["local"].load()(
                function,
                min(self.local_workers(), payloads),
                time_limit=needs.time_limit,
                preload=needs.preload,
                threads=needs.cpus,
                memory_limit=needs.memory_limit,
                gpus=needs.gpus,
            )
        return made


def _check_count(given: object, name: str, least: int) -> None:
    if isinstance(given, bool) or not isinstance(given, int) or given < least:
        raise UserError(f"{given!r} is not a whole number from {least}", name)
