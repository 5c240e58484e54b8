"""Gradient averaging over micro-batches, each with its true weight."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer

from trainoff.modules.loss_sum import terms_of
from trainoff.modules.regularizers.base import RecipeCallback
from trainoff.modules.sharded_tensors import alike


class MicrobatchAveraging(RecipeCallback):
    """Makes k accumulated micro-batches equal to the undivided batch, also where the last one is smaller.

    Lightning divides each loss by k, which is right for equal parts only. Here each loss is scaled by its number of
    terms (relative to the first part's, so that half precision keeps its range) and the sum of gradients is divided
    by the sum of those weights: ḡ = (1/|B|) Σₓ ∇J(θ, x). The terms are samples, or what the module's
    ``batch_terms(batch)`` says: the tokens of a batch, for losses that are means over tokens.

    Args:
        microbatches: k, the Trainer's ``accumulate_grad_batches``.
    """

    def __init__(self, microbatches: int) -> None:
        super().__init__()
        self.microbatches = microbatches
        self._first: Tensor | int = 0
        self._terms: Tensor | int = 0
        self._present: Tensor | int = 0
        self._is_begun = False

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget a step that the last epoch left unfinished."""
        self._is_begun = False

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Count the terms of this part; where they are a tensor, it is not read."""
        self._present = terms_of(pl_module, batch)
        if not self._is_begun:
            self._is_begun, self._first, self._terms = True, self._present, 0
        self._terms = self._terms + self._present

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Scale the loss, which Lightning has divided by k, to its part's weight."""
        loss.mul_(self.microbatches * self._present / self._first)

    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Divide the summed gradients by the summed weights."""
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        for places in alike(gradients):
            torch._foreach_mul_([gradients[place] for place in places], self._first / self._terms)
        self._is_begun = False
