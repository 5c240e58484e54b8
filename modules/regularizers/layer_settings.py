"""What sets a number of layers that the net has: the base of dropout and of stochastic depth."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import lightning as L
from torch import nn

from trainoff.modules.regularizers.base import Phase, Regularizer


class LayerSetting(Regularizer):
    """Sets the share ``p`` of layers during fit, and leaves the net as it was: another recipe may come.

    Args:
        p: The share.
    """

    phase: ClassVar[Phase] = Phase.LOSS

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self._before: list[tuple[Any, float]] = []

    @abstractmethod
    def layers_of(self, module: nn.Module) -> Sequence[nn.Module]:
        """The layers to set, which have a number ``p``.

        Raises:
            UserError: Where the module has none.
        """

    def share_of(self, number: int, count: int) -> float:
        """The share of the layer of that number, from 1, among so many."""
        return self.p

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Set the shares."""
        layers: Sequence[Any] = self.layers_of(self.part_of(pl_module))
        self._before = [(layer, float(layer.p)) for layer in layers]
        for number, layer in enumerate(layers, 1):
            layer.p = self.share_of(number, len(layers))

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the net as it was."""
        self._restore()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave the net as it was."""
        self._restore()

    def _restore(self) -> None:
        while self._before:
            layer, p = self._before.pop()
            layer.p = p
