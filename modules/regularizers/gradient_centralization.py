"""Gradients whose mean over each unit's inputs is zero."""

from __future__ import annotations

from typing import ClassVar

import lightning as L
import torch
from torch.optim import Optimizer

from trainoff.modules.regularizers.base import Phase, Regularizer


class GradientCentralization(Regularizer):
    """Subtracts from the gradient of each weight its mean over all but the first dimension (Yong et al. 2020, eq. 1).

    Biases and norms, of one dimension, are left alone.
    """

    phase: ClassVar[Phase] = Phase.GRADIENT

    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Centre the gradients of this optimizer's weights."""
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.ndim > 1:
                    gradient = parameter.grad
                    gradient.sub_(gradient.mean(dim=tuple(range(1, gradient.ndim)), keepdim=True))
