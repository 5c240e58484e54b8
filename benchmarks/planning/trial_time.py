"""How long a trial of a suite takes, from a short real one."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Sized
from typing import Any

import lightning as L
import torch

from trainoff.benchmarks.engines.trainer import Surroundings, train
from trainoff.benchmarks.planning.calibration import describe_device, matrix_rate, rate_text
from trainoff.benchmarks.provenance import train_size
from trainoff.benchmarks.trial import Budget, Trial

_SHORT = Budget(steps=20, seconds=0.5)
_LONGEST_STEP = 1.5
_FORWARD = 1 / 3  # of a step's time, the backward pass taking two


@dataclasses.dataclass(frozen=True)
class TrialTime:
    """Seconds on this machine, alone on it.

    Args:
        seconds: Of one trial.
        step_seconds: Of an optimizer step.
        once_seconds: Of building and of the evaluation at the end.
        steps: That the budget comes to.
        flops_per_step: Of these, for the time of another recipe on the task.
        how: In words.
    """

    seconds: float
    step_seconds: float
    once_seconds: float
    steps: int
    flops_per_step: int
    how: str


def time_trial(
    trial: Trial, datamodule: L.LightningDataModule, samples: int, flops_per_step: int, like: TrialTime | None = None
) -> TrialTime:
    """Run 20 steps of a trial on one device, whatever its strategy, and multiply.

    Args:
        trial: Any of the recipe's.
        datamodule: The task's, set up for ``fit``.
        samples: In a step.
        flops_per_step: As counted.
        like: Another recipe's time on the task, by which this one is told from its operations, without training.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rate = matrix_rate(device, torch.float32)
    if like is not None:
        step, once, how = like.step_seconds * flops_per_step / max(like.flops_per_step, 1), like.once_seconds, "scaled"
    elif flops_per_step / rate > _LONGEST_STEP:
        step, once = flops_per_step / rate, 0.0
        how = f"at least: at the {rate_text(rate)} of a product of matrices on {describe_device(device)}"
    else:
        setting = {key: value for key, value in trial.setting.items() if key != "strategy"}
        task = dataclasses.replace(trial.task, budget=_SHORT)
        cost = train(dataclasses.replace(trial, task=task, setting=setting), Surroundings()).cost
        trained = cost.train_seconds or 0.0
        step = cost.step_seconds_p50 or trained / max(cost.steps, 1)
        once = max(0.0, (cost.wall_seconds or 0.0) - trained)
        how = f"{cost.steps} steps trained on {describe_device(device)}"
    return total_time(trial.task.budget, datamodule, samples, step, once, flops_per_step, how)


def total_time(
    budget: Budget,
    datamodule: L.LightningDataModule,
    samples: int,
    step: float,
    once: float,
    flops: int,
    how: str,
) -> TrialTime:
    """Multiply.

    Args:
        budget: Of the trial.
        datamodule: Of the task.
        samples: In a step.
        step: Its seconds.
        once: Seconds of building and of the evaluation at the end.
        flops: Of a step.
        how: In words.
    """
    size = train_size(datamodule) or samples
    steps_of_epoch = math.ceil(size / samples)
    limits = [n for n in (budget.steps, budget.epochs and budget.epochs * steps_of_epoch) if n]
    steps = min(limits) if limits else round((budget.seconds or 0) / step)
    training = steps * step if budget.seconds is None else min(steps * step, budget.seconds)
    steps = round(training / step) if step else steps
    validations = max(0, math.ceil(steps / steps_of_epoch) - 1)  # one is in what a trial does once
    validation = min(once or math.inf, _val_size(datamodule) / samples * step * _FORWARD)
    seconds = training + once + validations * validation
    return TrialTime(seconds, step, once, steps, flops, how)


def _val_size(datamodule: L.LightningDataModule) -> int:
    """Samples of validation, where they can be counted."""
    with contextlib.suppress(Exception):  # a DataModule may do as it likes
        loader: Any = datamodule.val_dataloader()
        if isinstance(getattr(loader, "dataset", None), Sized):
            return len(loader.dataset)
        return len(loader.tensors[0])
    return 0
