"""Divergence and convergence: when a training must stop for what its numbers say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch

from trainoff.benchmarks.meters.curves import norm
from trainoff.benchmarks.meters.meter import Meter

# On an accelerator a look at the loss waits for the device: only every so many steps.
_LOOK_EVERY = 50


class Diverged(Exception):
    """The training loss is not finite."""


class DivergenceGuard(Meter):
    """Stops the training at the first loss that is not finite.

    On a CPU it looks at each step. On an accelerator the number of finite steps is counted on the device and read
    every 50 steps and at an epoch's end.
    """

    kept = ("last_finite_step", "_finite_steps", "_still_finite")

    def __init__(self) -> None:
        self.last_finite_step: int | None = None
        self._finite_steps: torch.Tensor | None = None
        self._still_finite: torch.Tensor | None = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the loss.

        Raises:
            Diverged: Where it is not finite.
        """
        loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        if loss is None:
            return
        if loss.device.type == "cpu":
            if not torch.isfinite(loss).item():
                raise Diverged(f"the loss was {float(loss)} at step {trainer.global_step}")
            self.last_finite_step = trainer.global_step
            return
        finite = torch.isfinite(loss.detach())
        self._still_finite = finite if self._still_finite is None else self._still_finite & finite
        step = torch.full_like(loss.detach(), trainer.global_step, dtype=torch.int64)
        previous = torch.zeros_like(step) if self._finite_steps is None else self._finite_steps
        self._finite_steps = torch.where(self._still_finite, step, previous)
        if trainer.global_step % _LOOK_EVERY == 0 or trainer.is_last_batch:
            self._look()

    def _look(self) -> None:
        if self._finite_steps is None or self._still_finite is None:
            return
        self.last_finite_step = int(self._finite_steps)
        if not self._still_finite:
            raise Diverged(f"the loss was not finite after step {self.last_finite_step}")


class ConvergenceStop(L.Callback):
    """Ends the training when the gradient, penalties included, is short enough.

    Args:
        gradient_norm: The 2-norm at which to stop.
    """

    def __init__(self, gradient_norm: float) -> None:
        self.gradient_norm = gradient_norm

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Read the gradient that the step has just used."""
        reached = norm([p.grad for p in pl_module.parameters() if p.grad is not None])
        if reached is not None and reached <= self.gradient_norm:
            trainer.should_stop = True


def count_spikes(losses: list[float | None]) -> int:
    """Epochs whose loss is more than twice the least one before."""
    spikes, least = 0, float("inf")
    for loss in losses:
        if loss is None:
            continue
        spikes += loss > 2 * least
        least = min(least, loss)
    return spikes
