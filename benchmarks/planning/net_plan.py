"""The plan of one net by name: memory under each strategy, operations, and the time of a step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from trainoff.benchmarks.planning.calibration import StepTime, time_step
from trainoff.benchmarks.planning.net_training import NetTraining, parts_of
from trainoff.benchmarks.planning.strategy_plan import StrategyMemory, Training, plan_strategies
from trainoff.benchmarks.planning.tracked_step import Kernels
from trainoff.modules.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class NetPlan:
    """What the training of a net needs.

    Args:
        training: The net and its sizes.
        recipe: How it is trained.
        samples: The global batch.
        devices: That share it.
        memory: Bytes that a device has; None where that is not said.
        kernels: Whose are planned.
        strategies: Bytes under each.
        refused: Strategies that cannot be, with why.
        step: Seconds of a step on this machine, on one device.
        flops_per_sample: Forward and backward.
    """

    training: NetTraining
    recipe: Recipe
    samples: int
    devices: int
    memory: int | None
    kernels: Kernels
    strategies: list[StrategyMemory]
    refused: dict[str, str]
    step: StepTime
    flops_per_sample: int

    @property
    def flops_per_step(self) -> int:
        """Forward and backward, of the whole batch."""
        return self.samples * self.flops_per_sample

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        facts = dataclasses.asdict(self)
        return {**facts, "recipe": self.recipe.to_dict(), "flops_per_step": self.flops_per_step}


def plan_net(
    training: NetTraining,
    recipe: Recipe,
    samples: int,
    rows: Sequence[str],
    devices: int = 1,
    memory: int | None = None,
    kernels: Kernels = "gpu",
) -> NetPlan:
    """Plan the training of a net.

    Args:
        training: The net and its sizes.
        recipe: How it is trained; its strategy is left out.
        samples: The global batch.
        rows: Of :data:`~trainoff.benchmarks.planning.strategy_plan.ALL_ROWS`.
        devices: That share the batch.
        memory: Bytes that a device has.
        kernels: Whose.

    Raises:
        UserError: For a mistake that shows when the training begins.
    """
    planned = Training(
        build=training.build,
        recipe=recipe,
        batches_of=lambda share: [training.batch(part) for part in parts_of(share, recipe.microbatches)],
        facts=training.facts,
        kernels=kernels,
    )
    refused: dict[str, str] | None = {} if len(rows) > 1 else None
    strategies = plan_strategies(planned, samples, devices, rows, memory, refused)
    single = next((row.memory for row in strategies if row.memory.flops_per_sample), None) or planned.track(samples)
    step = time_step(training, recipe, samples, single)
    return NetPlan(
        training, recipe, samples, devices, memory, kernels, strategies, refused or {}, step, single.flops_per_sample
    )
