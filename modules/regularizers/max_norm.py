"""A bound on the norm of each unit's incoming weights."""

from __future__ import annotations

from typing import Any, ClassVar

import lightning as L
import torch

from trainoff.errors import UserError
from trainoff.modules.regularizers.base import Phase, Regularizer, named_optimizer_parameters


class MaxNorm(Regularizer):
    """Projects after each step: every unit's incoming weights onto the ball ‖w‖₂ ≤ c (Srivastava et al. 2014, 5.1).

    A unit is one index of a weight's first dimension. Biases and norms, of one dimension, are left alone.

    Args:
        maximum: c, above 0.

    Raises:
        UserError: For a bound that is not positive.
    """

    phase: ClassVar[Phase] = Phase.AVERAGING

    def __init__(self, maximum: float = 3.0) -> None:
        super().__init__()
        if maximum <= 0:
            raise UserError(f"the bound of a norm is above 0, not {maximum}", "maximum")
        self.maximum = maximum
        self._projected_at = -1

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Project, where a step was taken."""
        if trainer.global_step == self._projected_at:
            return
        self._projected_at = trainer.global_step
        for optimizer in trainer.optimizers:
            for _, weight in named_optimizer_parameters(self.part_of(pl_module), optimizer):
                if weight.ndim > 1:
                    norms = weight.flatten(1).norm(dim=1).clamp_(min=self.maximum)
                    weight.mul_((self.maximum / norms).view(-1, *[1] * (weight.ndim - 1)))
