"""A training's memory on each device under each strategy: tracked where torch can, by formula where it cannot."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import lightning as L

from trainoff.benchmarks.planning.sharding import fake_devices, shard_net
from trainoff.benchmarks.planning.tracked_step import Kernels, StepMemory, track_step
from trainoff.errors import UserError, closest
from trainoff.modules.recipe import Recipe

How = Literal["tracked", "formula"]
# Rows of the table by the strategy's name in a recipe.
ROWS = {
    "single_device": ("single_device",),
    "ddp": ("ddp",),
    "ddp_spawn": ("ddp",),
    "deepspeed": ("deepspeed 1", "deepspeed 2", "fsdp"),
    "fsdp": ("fsdp",),
    "model_parallel": ("fsdp",),
}
ALL_ROWS = ("single_device", "ddp", "deepspeed 1", "deepspeed 2", "fsdp")
_BUCKET_ELEMENTS = 200_000_000  # of DeepSpeed's reduction, as Lightning sets it


@dataclasses.dataclass(frozen=True)
class StrategyMemory:
    """Bytes on each device under one strategy.

    Args:
        strategy: Its name; DeepSpeed's with the stage.
        devices: That share the batch.
        samples: On each device in a step.
        how: Tracked operation by operation, or the tracked numbers of one device divided by a formula.
        memory: The bytes.
        fits: Whether the peak is within what a device has; None where that is not said.
    """

    strategy: str
    devices: int
    samples: int
    how: How
    memory: StepMemory
    fits: bool | None = None


@dataclasses.dataclass(frozen=True)
class Training:
    """What is planned.

    Args:
        build: Makes the LightningModule, trained by a recipe that has no strategy.
        recipe: That recipe.
        batches_of: The micro-batches of a step, for so many samples on one device.
        facts: What the module takes from a DataModule.
        kernels: Whose attention and the like.
        keeps_best: Whether the best state so far is kept on the device.
    """

    build: Callable[[Recipe], L.LightningModule]
    recipe: Recipe
    batches_of: Callable[[int], Sequence[Any]]
    facts: Any
    kernels: Kernels = "gpu"
    keeps_best: bool = False

    def track(self, samples: int) -> StepMemory:
        """On one device."""
        return self._track(samples, None)

    def track_sharded(self, samples: int, devices: int) -> StepMemory:
        """On one of several devices that a net is sharded over by FSDP2.

        Raises:
            UserError: Where the module or the recipe needs its parameters whole.
        """
        with fake_devices(devices) as mesh:
            try:
                return self._track(samples, functools.partial(shard_net, mesh=mesh))
            except UserError:
                raise
            except Exception as error:  # whatever in torch or a regularizer does not take sharded tensors
                reason = " ".join(str(error).split())
                message = f"{self.recipe.name} does not train sharded parameters here: {reason}"
                raise UserError(message, "strategy") from error

    def _track(self, samples: int, shard: Any) -> StepMemory:
        recipe = trackable(self.recipe)
        build = functools.partial(self.build, recipe)
        return track_step(build, recipe, self.batches_of(samples), self.facts, shard, self.keeps_best, self.kernels)


def trackable(recipe: Recipe) -> Recipe:
    """The recipe in one process on a CPU: without strategy and compilation, bfloat16 in place of float16."""
    precision = {"16-mixed": "bf16-mixed", "transformer-engine": "bf16-mixed"}.get(
        str(recipe.precision), recipe.precision
    )
    return dataclasses.replace(recipe, strategy=None, compile=None, precision=precision)


def plan_strategies(
    training: Training,
    samples: int,
    devices: int,
    rows: Sequence[str],
    memory: int | None = None,
    refused: dict[str, str] | None = None,
) -> list[StrategyMemory]:
    """Plan a training under several strategies.

    Args:
        training: What.
        samples: The global batch.
        devices: That share it.
        rows: Of :data:`ALL_ROWS`.
        memory: Bytes that a device has.
        refused: Takes the rows that cannot be, with why, in place of an error.

    Raises:
        UserError: Where the batch is not shared equally, or the module or the recipe cannot be sharded.
    """
    if rows != ("single_device",) and samples % devices:
        raise UserError(f"{samples} samples cannot be shared equally by {devices} devices", "--batch")
    share = samples // devices
    track, formulas = functools.cache(training.track), {"ddp": _ddp, "deepspeed 1": _zero1, "deepspeed 2": _zero2}
    mixed = "mixed" in str(training.recipe.precision) or "engine" in str(training.recipe.precision)
    planned = []
    for row in rows:
        if row == "single_device":
            planned.append(StrategyMemory(row, 1, samples, "tracked", track(samples)))
        elif row in formulas:
            planned.append(StrategyMemory(row, devices, share, "formula", formulas[row](track(share), devices, mixed)))
        else:
            try:
                planned.append(StrategyMemory(row, devices, share, "tracked", training.track_sharded(share, devices)))
            except UserError as error:
                if refused is None:
                    raise
                refused[row] = error.message
    if memory is None:
        return planned
    return [dataclasses.replace(row, fits=row.memory.peak <= memory) for row in planned]


def _ddp(single: StepMemory, devices: int, mixed: bool) -> StepMemory:
    """The same on each device, and DDP's buckets, which hold the gradients once more."""
    return dataclasses.replace(single, copies=single.copies + single.gradients, peak=single.peak + single.gradients)


def _zero1(single: StepMemory, devices: int, mixed: bool) -> StepMemory:
    """Rajbhandari et al. 2020, section 5.1: the optimizer's state is divided."""
    return _zero(single, devices, mixed, gradients_divided=False)


def _zero2(single: StepMemory, devices: int, mixed: bool) -> StepMemory:
    """Section 5.2: the gradients too; they are summed in buckets."""
    return _zero(single, devices, mixed, gradients_divided=True)


def _zero(single: StepMemory, devices: int, mixed: bool, gradients_divided: bool) -> StepMemory:
    parameters, gradients, state = single.parameters, single.gradients, single.optimizer_state
    rest = max(0, single.peak - parameters - gradients - state)
    if mixed:  # half-precision weights and gradients; the optimizer has the weights in float32
        state += parameters
        parameters, gradients = parameters // 2, gradients // 2
    bucket = min(gradients, _BUCKET_ELEMENTS * gradients // max(single.parameter_count, 1))
    state //= devices
    if gradients_divided:
        gradients //= devices
    peak = parameters + gradients + state + bucket + rest
    return dataclasses.replace(
        single, parameters=parameters, gradients=gradients, optimizer_state=state, peak=peak,
        copies=single.copies + bucket,
    )  # fmt: skip


def rows_of(strategy: str) -> tuple[str, ...]:
    """The rows that a strategy's name stands for.

    Raises:
        UserError: For one that is not planned.
    """
    if strategy in ALL_ROWS:
        return (strategy,)
    if strategy not in ROWS:
        known = sorted({*ROWS, *ALL_ROWS})
        raise UserError(
            f"no plan is made for '{strategy}'{closest(strategy, known)}; there are {', '.join(known)}", "--strategy"
        )
    return ROWS[strategy]


_UNITS = {"": 1, "B": 1, "MB": 10**6, "GB": 10**9, "TB": 10**12, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def bytes_of(text: str) -> int:
    """``80GB`` (10⁹) or ``80GiB`` (2³⁰) as bytes.

    Raises:
        UserError: For anything else.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if found is None or found[2].upper() not in _UNITS or float(found[1]) == 0:
        raise UserError(f"'{text}' is no amount of memory; write 80GB or 80GiB", "--memory")
    return int(float(found[1]) * _UNITS[found[2].upper()])
