"""SNIP: prunes once, before the first step, by what each connection means to the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import lightning as L
import torch
from torch.optim import Optimizer

from trainoff.modules.pruning.base import Pruning, check_share
from trainoff.modules.pruning.criteria import Scope, check_scope, keep_highest


class Snip(Pruning):
    """Keeps the connections with the highest |g·θ| of the first batch (Lee, Ajanthan & Torr 2019, algorithm 1).

    The gradient is that of the first step, over its whole batch; the step itself is then taken by what is left. What
    regularizers add to the gradient counts, as it is part of the loss.

    Args:
        sparsity: Share that is pruned, in [0, 1).
        scope: ``global`` ranks all layers together, as the paper does; ``local`` each by itself.
        exclude: Shell patterns of parameter names that are not pruned. Biases, norms and embeddings never are.

    Raises:
        UserError: For a share out of range, or an unknown scope.
    """

    needs_total: ClassVar[bool] = False
    refused_needs: ClassVar[frozenset[str]] = frozenset({"closure", "create_graph"})
    refused_regularizers: ClassVar[frozenset[str]] = frozenset({"sam"})
    refusal: ClassVar[str] = "prunes between gradient and step"

    def __init__(self, sparsity: float = 0.8, scope: Scope = "global", exclude: Sequence[str] = ()) -> None:
        super().__init__(exclude)
        self.sparsity = check_share(sparsity, "sparsity")
        self.scope = check_scope(scope)

    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Prune at the first gradient; from then on take the pruned weights' gradients away."""
        if not self.is_done:
            scores = {
                name: torch.zeros_like(weight) if weight.grad is None else (weight.grad * weight).abs()
                for name, weight in self._weights.items()
            }
            self.set_masks(trainer, keep_highest(scores, self.sparsity, self.scope))
            self.is_done = True
        super().on_before_optimizer_step(trainer, pl_module, optimizer)
