"""A guard against loss spikes."""

from __future__ import annotations

import collections
import math
import statistics
from typing import Any, ClassVar, Literal

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainoff.errors import UserError
from trainoff.modules.regularizers.base import Phase, Regularizer

_LEAST = 5  # losses: before so many there is no median to speak of


class SpikeGuard(Regularizer):
    """Counts steps whose loss is far above the recent ones', and leaves them out (Chowdhery et al. 2022, section 5.1).

    A step is a spike where its loss is not finite, or above ``factor`` times the median of the last ``window`` losses
    that were none. Reading the loss waits for the device at each step.

    Args:
        action: ``count`` does no more than that; ``skip`` takes the step's gradients away, so that the optimizer
            leaves weights and state as they are; ``roll_back`` also puts back the weights of ``every`` to
            ``2 · every`` steps ago, before what led to the spike.
        factor: Above 1.
        window: Losses that the median is of, from 5.
        every: Steps between two copies of the weights, for ``roll_back``.

    Raises:
        UserError: For an unknown action, or a number out of range.
    """

    phase: ClassVar[Phase] = Phase.CLIPPING

    def __init__(
        self,
        action: Literal["count", "skip", "roll_back"] = "skip",
        factor: float = 3.0,
        window: int = 50,
        every: int = 100,
    ) -> None:
        super().__init__()
        if action not in ("count", "skip", "roll_back"):
            raise UserError(f"the action is count, skip or roll_back, not '{action}'", "action")
        if factor <= 1:
            raise UserError(f"a spike is above the median by a factor above 1, not {factor}", "factor")
        if window < _LEAST:
            raise UserError(f"the median is of at least {_LEAST} losses, not {window}", "window")
        if every < 1:
            raise UserError(f"copies are at least one step apart, not {every}", "every")
        self.action = action
        self.factor = factor
        self.window = window
        self.every = every
        self._losses: collections.deque[float] = collections.deque(maxlen=window)
        self._loss: Tensor | None = None
        self._copies: list[dict[str, Tensor]] = []
        self._copied_at = -1
        self._spikes: list[int] = []

    @property
    def spikes(self) -> list[int]:
        """The steps that were spikes, from 0."""
        return list(self._spikes)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Forget an earlier fit; a checkpoint's state comes after this."""
        if stage == "fit":
            self._losses.clear()
            self._copies, self._copied_at, self._spikes = [], -1, []

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Remember the loss; of several micro-batches the largest counts."""
        present = loss.detach() * trainer.accumulate_grad_batches  # Lightning divides it
        self._loss = present if self._loss is None else torch.maximum(self._loss, present)

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Judge the step."""
        if self._loss is None:
            return
        loss, self._loss = float(trainer.strategy.reduce(self._loss, reduce_op="mean")), None
        if not self._is_spike(loss):
            self._losses.append(loss)
            if self.action == "roll_back":
                self._copy(self.part_of(pl_module), trainer.global_step)
            return
        self._spikes.append(trainer.global_step)
        if self.action == "count":
            return
        if self.action == "roll_back" and self._copies:
            self._put_back(self.part_of(pl_module))
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def _is_spike(self, loss: float) -> bool:
        if not math.isfinite(loss):
            return True
        return len(self._losses) >= _LEAST and loss > self.factor * statistics.median(self._losses)

    def _copy(self, module: nn.Module, step: int) -> None:
        if self._copied_at >= 0 and step < self._copied_at + self.every:
            return
        self._copied_at = step
        self._copies = [
            *self._copies[-1:],
            {name: parameter.detach().clone() for name, parameter in module.named_parameters()},
        ]

    @torch.no_grad()
    def _put_back(self, module: nn.Module) -> None:
        before = self._copies[0]
        for name, parameter in module.named_parameters():
            parameter.copy_(before[name])

    def state_dict(self) -> dict[str, Any]:
        """What it knows of the losses, for a resumed training."""
        return {"losses": list(self._losses), "spikes": self.spikes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore that."""
        self._losses.extend(state_dict["losses"])
        self._spikes = list(state_dict["spikes"])
