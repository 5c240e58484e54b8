"""Gradient averaging over micro-batches, each with its true weight."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.data import extract_batch_size
from torch import Tensor
from torch.optim import Optimizer

from trainoff.modules.regularizers.base import RecipeCallback


class MicrobatchAveraging(RecipeCallback):
    """Makes k accumulated micro-batches equal to the undivided batch, also where the last one is smaller.

    Lightning divides each loss by k, which is right for equal parts only. Here each loss is scaled by its number of
    samples (relative to the first part's, so that half precision keeps its range) and the sum of gradients is
    divided by the sum of those weights: ḡ = (1/|B|) Σₓ ∇J(θ, x). Right for losses that are means over samples.

    Args:
        microbatches: k, the Trainer's ``accumulate_grad_batches``.
    """

    def __init__(self, microbatches: int) -> None:
        super().__init__()
        self.microbatches = microbatches
        self._first = 0
        self._samples = 0
        self._present = 0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget a step that the last epoch left unfinished."""
        self._samples = 0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Count the samples of this part."""
        self._present = extract_batch_size(batch)
        if self._samples == 0:
            self._first = self._present
        self._samples += self._present

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Scale the loss, which Lightning has divided by k, to its part's weight."""
        loss.mul_(self.microbatches * self._present / self._first)

    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Divide the summed gradients by the summed weights."""
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if gradients:
            torch._foreach_mul_(gradients, self._first / self._samples)
        self._samples = 0
