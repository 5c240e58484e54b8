"""Magnitude pruning: the smallest weights, or the units with the smallest ones, go."""

from __future__ import annotations

from collections.abc import Sequence

import lightning as L
from torch import Tensor, nn

from trainoff.modules.pruning.base import Pruning, check_share
from trainoff.modules.pruning.criteria import (
    Scope,
    check_scope,
    hidden_units,
    keep_highest,
    keep_highest_units,
    unit_masks,
    unit_norms,
    units_kept,
)


class ByMagnitude(Pruning):
    """What one-shot and gradual magnitude pruning share: who goes at a given sparsity.

    Args:
        sparsity: Share that is pruned in the end, in [0, 1): of the weights, or of the hidden units.
        scope: ``local`` ranks in each layer, ``global`` all layers together.
        structured: Prune whole units (output channels) by the norm of their incoming weights, with their bias. The
            module's last weight, whose units are the outputs, is then left out.
        exclude: Shell patterns of parameter names that are not pruned.

    Raises:
        UserError: For a share out of range, or an unknown scope.
    """

    def __init__(self, sparsity: float, scope: Scope, structured: bool, exclude: Sequence[str]) -> None:
        super().__init__(exclude)
        self.sparsity = check_share(sparsity, "sparsity")
        self.scope = check_scope(scope)
        self.structured = structured

    def weights_of(self, module: L.LightningModule) -> dict[str, nn.Parameter]:
        """All weights, or those of hidden units."""
        weights = super().weights_of(module)
        return hidden_units(module, weights) if self.structured and weights else weights  # type: ignore[return-value]

    def smallest(self, module: L.LightningModule, sparsity: float) -> dict[str, Tensor]:
        """Masks that leave the smallest out, those that are out already among them."""
        weights = self.weights_of(module)
        if not self.structured:
            sizes = {name: weight.detach().abs() for name, weight in weights.items()}
            return keep_highest(sizes, sparsity, self.scope, self._masks)
        kept = units_kept(module, {name: self._masks[name] for name in weights if name in self._masks})
        units = keep_highest_units(unit_norms(module, weights), sparsity, self.scope, kept)
        return unit_masks(module, weights, units)


class Magnitude(ByMagnitude):
    """Prunes the smallest weights once, and goes on training the others (Han et al. 2015).

    Args:
        sparsity: Share that is pruned, in [0, 1): of the weights, or of the hidden units.
        scope: ``local`` ranks in each layer, ``global`` all layers together.
        structured: Prune whole units (output channels) by the norm of their incoming weights, relative to the layer's
            mean, with their bias. The module's last weight, whose units are the outputs, is then left out, and each
            layer keeps one unit. A norm layer after them keeps its shift.
        at: Share of the training after which it is done, in [0, 1).
        exclude: Shell patterns of parameter names that are not pruned. Biases, norms and embeddings never are.

    Raises:
        UserError: For a share out of range, or an unknown scope.
    """

    def __init__(
        self,
        sparsity: float = 0.5,
        scope: Scope = "global",
        structured: bool = False,
        at: float = 0.5,
        exclude: Sequence[str] = (),
    ) -> None:
        super().__init__(sparsity, scope, structured, exclude)
        self.at = check_share(at, "at")

    def before_step(self, trainer: L.Trainer, module: L.LightningModule, step: int) -> None:
        """Prune when the time has come."""
        if not self.is_done and step >= int(self.at * self._total_steps):
            self.set_masks(trainer, self.smallest(module, self.sparsity))
            self.is_done = True
