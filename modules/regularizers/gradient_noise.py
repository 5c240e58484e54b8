"""Noise on the gradient."""

from __future__ import annotations

from typing import ClassVar

import lightning as L
import torch
from torch.optim import Optimizer

from trainoff.errors import UserError
from trainoff.modules.regularizers.base import Phase, Regularizer


class GradientNoise(Regularizer):
    """Adds g ← g + N(0, σ²/(1 + t)^γ) at step t, from 0 (Neelakantan et al. 2015, eq. 1).

    Args:
        sigma: σ, from 0: the standard deviation at the first step.
        gamma: Power of the decay, from 0.

    Raises:
        UserError: For a negative number.
    """

    phase: ClassVar[Phase] = Phase.GRADIENT

    def __init__(self, sigma: float = 0.01, gamma: float = 0.55) -> None:
        super().__init__()
        for name, value in (("sigma", sigma), ("gamma", gamma)):
            if value < 0:
                raise UserError(f"{name} is at least 0, not {value}", name)
        self.sigma = sigma
        self.gamma = gamma

    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Add the noise to this optimizer's gradients."""
        deviation = self.sigma / (1 + trainer.global_step) ** (self.gamma / 2)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.add_(torch.randn_like(parameter.grad), alpha=deviation)
