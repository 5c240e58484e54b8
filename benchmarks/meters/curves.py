"""What is read once an epoch: losses, metrics, rates, norms; the best epoch's state; the time to the target."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import lightning as L
import msgspec
import torch
from torch import Tensor

from trainoff.benchmarks.meters.meter import Meter
from trainoff.benchmarks.meters.time import TimeMeter
from trainoff.benchmarks.record import Curves, Scores
from trainoff.benchmarks.trial import Task
from trainoff.errors import UserError, closest
from trainoff.modules.loss_sum import LossSum, terms_of
from trainoff.modules.pruning.base import pruning_of

_PREFIXES = {"val": ("val", "valid", "validation"), "test": ("test",)}


def find_logged(logged: Mapping[str, Any], split: Literal["val", "test"], name: str) -> float | None:
    """A logged value by its short name: ``val/name``, ``val_name``, or the bare name where it has no prefix.

    Args:
        logged: Lightning's metrics.
        split: Whose value.
        name: Short name, or the name that validation logs (``val_acc`` also finds ``test_acc``).
    """
    value = logged.get(_find_key(logged, split, name) or "")
    return None if value is None else finite(value)


def check_logged(logged: Mapping[str, Any], split: Literal["val", "test"], task: Task, module: object) -> None:
    """Raise :class:`UserError` where the module logs no metric of the task's name, finite or not."""
    if _find_key(logged, split, task.metric) is not None:
        return
    names = ", ".join(sorted(logged)) or "nothing"
    kind = "validation" if split == "val" else "test"
    near = closest(_short(task.metric), [_short(name, split) for name in logged])
    raise UserError(f"{type(module).__name__} logs no {kind} metric '{task.metric}'; it logs {names}{near}", "metric")


def _find_key(logged: Mapping[str, Any], split: Literal["val", "test"], name: str) -> str | None:
    short = _short(name)
    candidates = [f"{prefix}{mark}{short}" for prefix in _PREFIXES[split] for mark in "/_"]
    if short != "loss":  # a bare "loss" is as likely the training's
        candidates.append(short)
    return next((key for key in candidates if key in logged), None)


def _short(name: str, split: Literal["val", "test"] = "val") -> str:
    for prefix in _PREFIXES[split]:
        name = name.removeprefix(f"{prefix}/").removeprefix(f"{prefix}_")
    return name


def finite(value: Any) -> float | None:
    """A finite float, or nothing."""
    number = float(value)
    return number if math.isfinite(number) else None


class CurveMeter(Meter):
    """Reads the curves at the end of each epoch and keeps the state of the best validation metric.

    Where the recipe prunes, that is the best state among those with the final masks, and the target is reached by one
    of them: a dense one is not what was asked for.

    Args:
        task: Whose metric, mode and target.
        clock: For the time to the target.
    """

    kept = ("best_state", "best_epoch", "best_value", "to_target")

    def __init__(self, task: Task, clock: TimeMeter) -> None:
        self.task = task
        self.clock = clock
        self.curves = Curves([], [], [], [], [], [], [], [])
        self.best_state: dict[str, Tensor] | None = None
        self.best_epoch: int | None = None
        self.best_value = (False, -math.inf)
        self.to_target: tuple[float, int, int] | None = None
        self._losses = LossSum()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add up the loss on the device, also for modules that log no epoch mean of it."""
        loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        if loss is not None:
            # Lightning hands over the loss divided by the number of accumulated batches.
            self._losses.add(loss.detach() * trainer.accumulate_grad_batches, terms_of(pl_module, batch))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Read validation; keep the state where it is the best so far.

        Raises:
            UserError: Where the module logs no metric of the task's name.
        """
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        logged = trainer.callback_metrics
        check_logged(logged, "val", self.task, pl_module)
        scores = Scores(find_logged(logged, "val", self.task.metric), find_logged(logged, "val", "loss"))
        self.add_validation(scores, trainer.global_step, pl_module)

    def add_validation(self, scores: Scores, step: int, module: L.LightningModule) -> None:
        """Note a validation of the module's present state, after so many steps.

        The engine adds one itself where a training ends within an epoch, so that its last state takes part in the
        choice of the best one.
        """
        epoch = len(self.curves.val_metric) + 1
        self.curves.val_metric.append(scores.metric)
        self.curves.val_loss.append(scores.loss)
        self.curves.train_seconds.append(self.clock.elapsed())
        self.curves.steps.append(step)
        if scores.metric is None:
            return
        signed = scores.metric if self.task.mode == "max" else -scores.metric
        pruning = pruning_of(module)
        value = (pruning is None or pruning.is_done, signed)
        if value > self.best_value:
            self.best_value, self.best_epoch = value, epoch
            self.best_state = {key: tensor.detach().clone() for key, tensor in module.state_dict().items()}
        if self.task.target is not None and self.to_target is None and value[0]:
            goal = self.task.target if self.task.mode == "max" else -self.task.target
            if signed >= goal:
                self.to_target = (self.clock.elapsed(), step, epoch)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Read what the training left: mean loss, learning rate, norms."""
        mean = self._losses.mean()
        self._losses = LossSum()
        self.curves.train_loss.append(None if mean is None else finite(mean))
        rate = trainer.optimizers[0].param_groups[0].get("lr")  # an optimizer that finds its steps by itself has none
        self.curves.learning_rate.append(None if rate is None else finite(rate))
        parameters = [p.detach() for p in pl_module.parameters() if p.requires_grad]
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        self.curves.gradient_norm.append(norm(gradients))
        self.curves.weight_norm.append(norm(parameters))

    def state_dict(self) -> dict[str, Any]:
        """The curves and the sum of an unfinished epoch's losses with the rest."""
        return {
            **super().state_dict(),
            "curves": msgspec.to_builtins(self.curves),
            "losses": self._losses.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        super().load_state_dict(state_dict)
        self.curves = msgspec.convert(state_dict["curves"], Curves)
        self._losses.load_state_dict(state_dict["losses"])


@torch.no_grad()
def norm(tensors: list[Tensor]) -> float | None:
    """The 2-norm of all tensors together."""
    if not tensors:
        return None
    return finite(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors))))
