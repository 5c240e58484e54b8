"""What a suite will need: memory of each recipe on each task, trials, and the time that they take on this machine."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Sequence
from typing import Any, cast

from trainoff.benchmarks.executors.choice import default_workers
from trainoff.benchmarks.pairs import Pair, PlannedTask, placed
from trainoff.benchmarks.planning.step_batches import bytes_of_data, samples_of_step, step_batches
from trainoff.benchmarks.planning.strategy_plan import StrategyMemory, Training, plan_strategies, rows_of
from trainoff.benchmarks.planning.tracked_step import Kernels
from trainoff.benchmarks.planning.trial_time import TrialTime, time_trial
from trainoff.benchmarks.suite import Suite
from trainoff.benchmarks.task_building import build_module
from trainoff.modules.recipe import Choice, Recipe
from trainoff.registry import arguments_of

_MOST_SECONDS = 20.0  # of trainings for the sake of their time, over the whole suite


@dataclasses.dataclass(frozen=True)
class PairPlan:
    """What one recipe needs on one task.

    Args:
        task: Its name.
        recipe: Its name.
        trials: Of both stages.
        samples: In a step; where the batch is tuned, in the largest.
        strategy: Bytes on each device.
        flops_per_step: Forward and backward.
        time: Of one trial.
    """

    task: str
    recipe: str
    trials: int
    samples: int
    strategy: StrategyMemory
    flops_per_step: int
    time: TrialTime


@dataclasses.dataclass(frozen=True)
class SuitePlan:
    """What a suite needs.

    Args:
        suite: Its name.
        workers: Processes that trials run in.
        memory: Bytes that a device has; None where that is not said.
        kernels: Whose are planned.
        pairs: Each recipe on each task.
    """

    suite: str
    workers: int
    memory: int | None
    kernels: Kernels
    pairs: list[PairPlan]

    @property
    def trials(self) -> int:
        """Of all pairs."""
        return sum(pair.trials for pair in self.pairs)

    @property
    def seconds(self) -> float:
        """Of all trials, divided by the workers."""
        return sum(pair.trials * pair.time.seconds for pair in self.pairs) / self.workers

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**dataclasses.asdict(self), "trials": self.trials, "seconds": self.seconds}


def plan_suite(
    suite: Suite,
    devices: int | None = None,
    strategy: str | None = None,
    memory: int | None = None,
    workers: int | None = None,
    kernels: Kernels = "cpu",
) -> SuitePlan:
    """Plan each recipe on each task; loads each task's data once.

    Args:
        suite: What.
        devices: In place of the recipes' own.
        strategy: Likewise.
        memory: Bytes that a device has.
        workers: That the time is for; as many as ``trainoff run`` takes by default.
        kernels: Whose.

    Raises:
        UserError: For a mistake in suite, task or recipe.
    """
    pairs: list[PairPlan] = []
    end = time.monotonic() + _MOST_SECONDS
    for task in suite.tasks:
        planned = PlannedTask(suite, task)
        known: TrialTime | None = None
        for pair in planned.pairs:
            with placed(suite, task.name, pair.recipe.name):
                plan = _plan_pair(pair, planned, devices, strategy, memory, kernels, end, known)
            known = known or plan.time
            pairs.append(plan)
    used = min(workers or default_workers(), max(1, sum(pair.trials for pair in pairs)))
    return SuitePlan(suite.name, used, memory, kernels, pairs)


def _plan_pair(
    pair: Pair,
    planned: PlannedTask,
    devices: int | None,
    strategy: str | None,
    memory: int | None,
    kernels: Kernels,
    end: float,
    known: TrialTime | None,
) -> PairPlan:
    recipe, samples = max(_candidates(pair, planned), key=lambda found: found[1])
    row, number = _strategy_of(recipe, strategy, devices)
    training = Training(
        build=functools.partial(build_module, pair.task.module),
        recipe=recipe,
        batches_of=functools.partial(step_batches, planned.datamodule, recipe),
        facts=planned.datamodule,
        kernels=kernels,
        keeps_best=True,
    )
    (found,) = plan_strategies(training, samples, number, [row], None)
    if kernels == "gpu":
        found = _with_data(found, bytes_of_data(planned.datamodule))
    if memory is not None:
        found = dataclasses.replace(found, fits=found.memory.peak <= memory)
    flops = (found.memory.flops_per_sample or training.track(samples // number).flops_per_sample) * samples
    trials = [*[trial for group in pair.tuning() for trial in group], *(pair.final() or [])]
    taken = time_trial(trials[0], planned.datamodule, samples, flops, known if time.monotonic() > end else None)
    return PairPlan(pair.task.name, pair.recipe.name, pair.count, samples, found, flops, taken)


def _candidates(pair: Pair, planned: PlannedTask) -> Sequence[tuple[Recipe, int]]:
    """Each setting's recipe, and the samples of its step."""
    recipes = [Recipe.of(setting.fields) for setting in pair.recipe.settings]
    return [(recipe, samples_of_step(planned.datamodule, recipe)) for recipe in recipes]


def _strategy_of(recipe: Recipe, strategy: str | None, devices: int | None) -> tuple[str, int]:
    """The row of the plan, and the number of devices."""
    choice = cast(Choice, recipe.strategy) if recipe.strategy is not None else {}
    options = arguments_of(choice) if choice else {}
    own = options.get("devices", 1)
    number = devices or (own if isinstance(own, int) and own > 0 else 1)
    name = strategy or str(choice.get("name", "single_device"))
    if name in ("auto", "single_device"):
        return ("ddp", number) if number > 1 else ("single_device", 1)
    rows = rows_of(name)
    return rows[min(int(options.get("stage", 2)), len(rows)) - 1], number


def _with_data(found: StrategyMemory, size: int) -> StrategyMemory:
    memory = dataclasses.replace(found.memory, copies=found.memory.copies + size, peak=found.memory.peak + size)
    return dataclasses.replace(found, memory=memory)
