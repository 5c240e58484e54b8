"""Stochastic depth at the places that the net has for it."""

from __future__ import annotations

from typing import ClassVar

import lightning as L

from trainoff.errors import UserError
from trainoff.modules.nets.drop_path import DropPath as DropPathLayer
from trainoff.modules.nets.drop_path import set_drop_path
from trainoff.modules.regularizers.base import Phase, Regularizer


class DropPath(Regularizer):
    """Leaves residual branches out at random, during fit (Huang et al. 2016, eq. 2 and 4).

    Sets every :class:`trainoff.modules.nets.drop_path.DropPath` of the module: the l-th of L drops a share p · l / L
    of the samples. A module without any is refused.

    Args:
        p: Share of samples for which the last branch is left out, in [0, 1).

    Raises:
        UserError: For a share outside [0, 1).
    """

    phase: ClassVar[Phase] = Phase.LOSS

    def __init__(self, p: float = 0.1) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise UserError(f"the share of samples lies in [0, 1), not {p}", "p")
        self.p = p
        self._before: list[tuple[DropPathLayer, float]] = []

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Set the shares.

        Raises:
            UserError: Where the module has no place for it.
        """
        self._before = [(layer, layer.p) for layer in pl_module.modules() if isinstance(layer, DropPathLayer)]
        if not set_drop_path(pl_module, self.p):
            raise UserError(
                f"{type(pl_module).__name__} has no residual branch that can be left out; resnet20 has, and a "
                "trainoff.modules.nets.drop_path.DropPath() at the end of each branch makes your own net ready",
                "drop_path",
            )

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the net as it was: another recipe may come."""
        self._restore()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave the net as it was."""
        self._restore()

    def _restore(self) -> None:
        for layer, p in self._before:
            layer.p = p
