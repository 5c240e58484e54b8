"""From a recipe's schedule to what Lightning's ``configure_optimizers`` returns."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from trainoff.errors import UserError
from trainoff.modules.schedule_functions import Plateau, Schedule
from trainoff.modules.schedules import SCHEDULES, Interval
from trainoff.registry import arguments_of


@dataclass
class StepFactor:
    """A schedule after its warm-up, as the one-argument callable that torch's ``LambdaLR`` wants.

    An object rather than a closure, so that it pickles; its plain attributes travel in checkpoints.

    Args:
        schedule: What follows the warm-up.
        warmup: Steps in which the rate rises linearly: (t + 1) / warmup of the base rate.
        total: Steps of the whole training, warm-up included.
    """

    schedule: Schedule
    warmup: int
    total: int

    def __call__(self, step: int) -> float:
        """The share of the base rate at ``step``, from 0."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        return self.schedule.factor(step - self.warmup, self.total - self.warmup)


class RecipeLR(LambdaLR):
    """``LambdaLR`` whose state leaves the functions out: they come from the recipe, and a checkpoint that holds
    objects would not load with ``weights_only=True``.
    """

    def state_dict(self) -> dict[str, Any]:
        """The position only."""
        return {key: value for key, value in super().state_dict().items() if key != "lr_lambdas"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the position; the functions stay."""
        super().load_state_dict({**state_dict, "lr_lambdas": [None] * len(self.lr_lambdas)})


class SharedPlateau(ReduceLROnPlateau):
    """``ReduceLROnPlateau`` that reads the mean of all processes' values.

    A value logged without ``sync_dist=True`` is another one in each process: each would set a rate of its own, and
    their weights would part.
    """

    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]  # as torch's own does
        """Judge the value of an epoch."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            device = self.optimizer.param_groups[0]["params"][0].device
            metrics = torch.as_tensor(metrics, dtype=torch.float32).to(device, copy=True)
            torch.distributed.all_reduce(metrics)
            metrics /= torch.distributed.get_world_size()
        super().step(metrics, epoch)


def _plateau_scheduler(plateau: Plateau, optimizer: torch.optim.Optimizer) -> SharedPlateau:
    return SharedPlateau(
        optimizer, mode=plateau.mode, factor=plateau.multiplier, patience=plateau.patience, min_lr=plateau.minimum
    )


def split_choice(choice: Mapping[str, Any]) -> tuple[dict[str, Any], float, Interval]:
    """The schedule's own arguments, the warm-up (a share below 1, else steps), and what the step counts."""
    arguments = arguments_of(choice)
    warmup = arguments.pop("warmup", 0)
    if isinstance(warmup, bool) or not isinstance(warmup, (int, float)) or warmup < 0:
        raise UserError(
            f"{warmup!r} is neither a share of the training (0.1) nor a number of steps", "schedule.warmup"
        )
    default: Interval = SCHEDULES[choice["name"]].interval if "name" in choice else "epoch"
    interval = arguments.pop("interval", default)
    if interval not in ("step", "epoch"):
        raise UserError(f"{interval!r} is neither 'step' nor 'epoch'", "schedule.interval")
    return arguments, warmup, interval


def build_schedule(choice: Mapping[str, Any], total: int) -> StepFactor:
    """A choice as a pure function of the step.

    Args:
        choice: Normalised: name and arguments, ``warmup`` and ``interval`` among them.
        total: Steps (or epochs, as the interval says) of the whole training.

    Raises:
        UserError: For ``plateau``, which is not a function of the step.
    """
    arguments, warmup, _ = split_choice(choice)
    schedule = SCHEDULES.load(choice)(**arguments)
    if not hasattr(schedule, "factor"):
        raise UserError(f"'{choice.get('name')}' depends on the training, not on the step alone", "schedule")
    steps = round(warmup * total) if isinstance(warmup, float) and warmup < 1 else int(warmup)
    return StepFactor(schedule, steps, total)


def lightning_scheduler(
    choice: Mapping[str, Any],
    optimizer: torch.optim.Optimizer,
    total_steps: float,
    total_epochs: int | None,
    is_trial: bool = False,
) -> dict[str, Any] | None:
    """The ``lr_scheduler`` part of what ``configure_optimizers`` returns; ``None`` for a constant rate.

    Args:
        choice: Normalised.
        optimizer: Whose rate it sets.
        total_steps: Optimizer steps of the training; infinite where the budget does not say.
        total_epochs: Epochs of the training, where the budget says.
        is_trial: A few steps to see that all works; a warm-up may then be longer than them.

    Raises:
        UserError: Where the schedule needs an end that the budget does not give.
    """
    arguments, warmup, interval = split_choice(choice)
    if choice.get("name") == "constant" and not warmup:
        return None
    factory = SCHEDULES.load(choice)
    if inspect.isclass(factory) and issubclass(factory, (LRScheduler, ReduceLROnPlateau)):
        return {"scheduler": factory(optimizer, **arguments), "interval": interval}
    if factory is Plateau:
        if warmup:
            raise UserError("plateau has no warm-up: it reads the validation metric only", "schedule.warmup")
        plateau = Plateau(**arguments)
        return {"scheduler": _plateau_scheduler(plateau, optimizer), "interval": "epoch", "monitor": plateau.monitor}
    total = total_steps if interval == "step" else (total_epochs or math.inf)
    needs_total = ("name" in choice and SCHEDULES[choice["name"]].needs_total) or (0 < warmup < 1)
    if not math.isfinite(total) and needs_total:
        raise UserError(f"needs an end: give the Trainer max_epochs or max_steps (interval: {interval})", "schedule")
    factor = build_schedule(choice, int(total) if math.isfinite(total) else 0)
    if math.isfinite(total) and factor.warmup >= total and not is_trial:
        raise UserError(f"{factor.warmup} {interval}s, of {int(total)} in the whole training", "schedule.warmup")
    return {"scheduler": RecipeLR(optimizer, factor), "interval": interval}
