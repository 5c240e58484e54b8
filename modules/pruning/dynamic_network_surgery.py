"""Dynamic network surgery: prunes and splices while the net trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch

from trainoff.errors import UserError
from trainoff.modules.pruning.base import check_share
from trainoff.modules.pruning.dense_weights import DenseWeights


class DynamicNetworkSurgery(DenseWeights):
    """Prunes weights that are small, and splices those that become large again (Guo, Yao & Chen 2016, algorithm 1).

    A mask h is 0 where |θ| < a, 1 where |θ| ≥ b, and what it was in between, with a = (1 − m)(μ + cσ) and
    b = (1 + m)(μ + cσ) of each layer; μ and σ are mean and standard deviation of |θ| at the first surgery. The forward
    pass has θ ⊙ h; the gradient there moves all of θ, so that a connection that is missed comes back. Masks are
    updated with the probability (1 + γt)^−power after t steps of surgery, drawn alike in all processes.

    Args:
        c: How many standard deviations above the mean the threshold lies; the sparsity follows from it.
        margin: m, in [0, 1).
        start: Share of the training at which surgery begins, in [0, 1).
        end: Share at which it ends, and the masks are final; above ``start`` and below 1.
        gamma: γ, from 0.
        power: From 0.
        exclude: Shell patterns of parameter names that are not pruned. Biases, norms and embeddings never are.

    Raises:
        UserError: For numbers out of range.
    """

    def __init__(
        self,
        c: float = 0.5,
        margin: float = 0.1,
        start: float = 0.1,
        end: float = 0.8,
        gamma: float = 1e-3,
        power: float = 1.0,
        exclude: Sequence[str] = (),
    ) -> None:
        super().__init__(exclude)
        check_share(margin, "margin")
        check_share(start, "start")
        check_share(end, "end")
        if end <= start:
            raise UserError(f"surgery ends at {end} of the training, and starts at {start}", "end")
        if gamma < 0 or power < 0:
            raise UserError(f"the probability falls as (1 + γt)^−power, both from 0, not {gamma} and {power}", "gamma")
        self.c, self.margin, self.start, self.end, self.gamma, self.power = c, margin, start, end, gamma, power

    def _forget(self) -> None:
        super()._forget()
        self._thresholds: dict[str, float] = {}

    def before_step(self, trainer: L.Trainer, module: L.LightningModule, step: int) -> None:
        """Update the masks, where chance has it."""
        first, last = int(self.start * self._total_steps), int(self.end * self._total_steps)
        self.is_done = step >= last
        if self.is_done or step < first:
            return
        draw = torch.rand((), generator=torch.Generator().manual_seed(step))
        if float(draw) >= (1 + self.gamma * (step - first)) ** -self.power:
            return
        sizes = {name: self._dense.get(name, weight.detach()).abs() for name, weight in self._weights.items()}
        if not self._thresholds:
            self._thresholds = {n: float(s.mean() + self.c * s.std(correction=0)) for n, s in sizes.items()}
        masks = {}
        for name, size in sizes.items():
            before = self._masks.get(name, torch.ones_like(size, dtype=torch.bool))
            low, high = (1 - self.margin) * self._thresholds[name], (1 + self.margin) * self._thresholds[name]
            masks[name] = (before & (size >= low)) | (size >= high)
        self.set_masks(trainer, masks)

    def state_dict(self) -> dict[str, Any]:
        """The thresholds, too."""
        return {**super().state_dict(), "thresholds": dict(self._thresholds)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        super().load_state_dict(state_dict)
        self._thresholds = dict(state_dict["thresholds"])
