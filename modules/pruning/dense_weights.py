"""Masks that can come back: the dense weights are kept aside and go on being trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer

from trainoff.modules.pruning.base import Pruning


class DenseWeights(Pruning):
    """Base of the methods whose pruned weights keep their values, so that they can come back.

    Forward and backward pass see the masked weights; the optimizer steps on the dense ones, with the gradient at the
    masked ones. Outside of a step the module holds the masked weights: validation, checkpoints and averages see those.
    The dense ones are in the callback, and in its part of a checkpoint.

    An optimizer that evaluates several times a step, differentiates twice, or keeps two kinds of weights is refused,
    and so is a projection after the step, which would not reach the dense weights.
    """

    refused_needs: ClassVar[frozenset[str]] = frozenset({"closure", "create_graph", "train_mode"})
    refused_regularizers: ClassVar[frozenset[str]] = frozenset({"max_norm", "sam"})
    refusal: ClassVar[str] = "steps on weights that the net does not see"

    def _forget(self) -> None:
        super()._forget()
        self._dense: dict[str, Tensor] = {}
        self._holds_dense = False

    @property
    def dense(self) -> Mapping[str, Tensor]:
        """The weights without the masks, by name; empty before the first masks."""
        return dict(self._dense)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Move what a checkpoint brought to the weights' devices."""
        every = dict(pl_module.named_parameters())
        self._dense = {name: dense.to(every[name].device) for name, dense in self._dense.items()}
        super().on_train_start(trainer, pl_module)

    @torch.no_grad()
    def set_masks(self, trainer: L.Trainer, masks: Mapping[str, Tensor], counted: bool = True) -> None:
        """Take new masks; what they give back has its dense value."""
        for name in masks:
            if name not in self._dense:
                self._dense[name] = self._parameters[name].detach().clone()
        super().set_masks(trainer, masks, counted)

    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Hand the dense weights to the optimizer."""
        if self._dense and not self._holds_dense:
            for name, weight in self._masked():
                weight.data.copy_(self._dense[name])
            self._holds_dense = True

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the dense weights back from the optimizer, and leave the masked ones."""
        self._take_back(trainer)

    @torch.no_grad()
    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave the masked weights, also where a step is broken off."""
        self._take_back(trainer)

    def _take_back(self, trainer: L.Trainer) -> None:
        if self._holds_dense:
            for name, weight in self._masked():
                self._dense[name].copy_(weight)
            self._holds_dense = False
            self._apply(trainer)

    def _apply(self, trainer: L.Trainer) -> None:
        for name, weight in self._masked():
            weight.data.copy_(self._dense[name])
        super()._apply(trainer)

    def _clear_state(self, optimizers: Iterable[Any]) -> None:
        """Nothing: the pruned weights' momentum goes on."""

    @torch.no_grad()
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Set pruned weights to zero once more, in whatever average another callback has put in their place."""
        Pruning._apply(self, trainer)

    def state_dict(self) -> dict[str, Any]:
        """The dense weights, too."""
        return {**super().state_dict(), "dense": {name: dense.clone() for name, dense in self._dense.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        super().load_state_dict(state_dict)
        self._dense = dict(state_dict["dense"])
