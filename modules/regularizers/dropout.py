"""Dropout at the places that the net has for it."""

from __future__ import annotations

from typing import ClassVar

import lightning as L
from torch import nn

from trainoff.errors import UserError
from trainoff.modules.regularizers.base import Phase, Regularizer

# nn.modules.dropout._DropoutNd is the common base, but private; these are its public children.
_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


class Dropout(Regularizer):
    """Sets the probability of every dropout layer of the module, during fit (Srivastava et al. 2014).

    trainoff's nets have such layers at the usual places, with probability 0 by default; a module without any is
    refused.

    Args:
        p: Share of activations that are zeroed in training, in [0, 1).

    Raises:
        UserError: For a share outside [0, 1).
    """

    phase: ClassVar[Phase] = Phase.LOSS

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise UserError(f"a dropout probability lies in [0, 1), not {p}", "p")
        self.p = p
        self._before: list[tuple[nn.Module, float]] = []

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Set the probability.

        Raises:
            UserError: Where the module has no dropout layer.
        """
        layers = [layer for layer in pl_module.modules() if isinstance(layer, _DROPOUT)]
        if not layers:
            raise UserError(
                f"{type(pl_module).__name__} has no dropout layer to set; put nn.Dropout() where it should act",
                "dropout",
            )
        self._before = [(layer, float(layer.p)) for layer in layers]
        for layer in layers:
            layer.p = self.p

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the net as it was: another recipe may come."""
        self._restore()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave the net as it was."""
        self._restore()

    def _restore(self) -> None:
        for layer, p in self._before:
            layer.p = p  # type: ignore[assignment]
