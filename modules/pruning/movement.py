"""Movement pruning: weights that the training drives towards zero go, whatever their size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer

from trainoff.modules.pruning.criteria import Scope, check_scope, keep_highest
from trainoff.modules.pruning.dense_weights import DenseWeights
from trainoff.modules.pruning.gradual import CubicSchedule


class Movement(DenseWeights):
    """Keeps the weights with the highest score S = −Σ α·g·θ over the steps (Sanh, Wolf & Rush 2020, section 4).

    g is the gradient at the masked weight, of pruned weights too (straight through), so that a score can rise again
    and its weight come back with the value that it was pruned at. The sum runs from the first step of the training,
    with the learning rate of each step for α; sparsity grows by the cubic schedule of ``gradual``.

    Args:
        sparsity: Share that is pruned in the end, in [0, 1).
        initial: Share that the first pruning prunes.
        start: Share of the training at which pruning begins, in [0, 1).
        end: Share at which the masks are final, above ``start`` and below 1.
        updates: How many prunings follow the first one.
        scope: ``local`` ranks in each layer, ``global`` all layers together.
        exclude: Shell patterns of parameter names that are not pruned. Biases, norms and embeddings never are.

    Raises:
        UserError: For numbers out of range, or an unknown scope.
    """

    refusal: ClassVar[str] = "scores weights that the net does not see"

    def __init__(
        self,
        sparsity: float = 0.8,
        initial: float = 0.0,
        start: float = 0.1,
        end: float = 0.7,
        updates: int = 20,
        scope: Scope = "local",
        exclude: Sequence[str] = (),
    ) -> None:
        super().__init__(exclude)
        self._schedule = CubicSchedule(sparsity, initial, start, end, updates)
        self.sparsity, self.initial, self.start, self.end, self.updates = sparsity, initial, start, end, updates
        self.scope = check_scope(scope)

    def _forget(self) -> None:
        super()._forget()
        self._scores: dict[str, Tensor] = {}
        self._prunings = 0

    @property
    def scores(self) -> dict[str, Tensor]:
        """S by name, as long as it is summed."""
        return dict(self._scores)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin the sums, or go on with a checkpoint's."""
        super().on_train_start(trainer, pl_module)
        for name, weight in self._weights.items():
            saved = self._scores.get(name)
            self._scores[name] = torch.zeros_like(weight) if saved is None else saved.to(weight.device)

    def before_step(self, trainer: L.Trainer, module: L.LightningModule, step: int) -> None:
        """New masks where they are due."""
        due = self._schedule.due(step, self._total_steps)
        if due > self._prunings:
            self.set_masks(trainer, keep_highest(self._scores, self._schedule.at(due), self.scope))
            self._prunings = due
            self.is_done = due > self.updates

    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Add to the scores; then the pruned weights' gradients go, which leaves their values as they are."""
        super().on_before_optimizer_step(trainer, pl_module, optimizer)
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        for name, weight in self._weights.items():
            if weight.grad is None or id(weight) not in rates:
                continue
            if not self.is_done:
                self._scores[name].addcmul_(weight.grad * rates[id(weight)], weight.detach(), value=-1)
            if name in self._masks:
                weight.grad.mul_(self._masks[name])

    def state_dict(self) -> dict[str, Any]:
        """The scores, too."""
        scores = {name: score.clone() for name, score in self._scores.items()}
        return {**super().state_dict(), "scores": scores, "prunings": self._prunings}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        super().load_state_dict(state_dict)
        self._scores = dict(state_dict["scores"])
        self._prunings = state_dict["prunings"]
