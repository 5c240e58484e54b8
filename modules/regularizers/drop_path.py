"""Stochastic depth at the places that the net has for it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from trainoff.errors import UserError
from trainoff.modules.nets.drop_path import DropPath as DropPathLayer
from trainoff.modules.nets.drop_path import share_at_depth
from trainoff.modules.regularizers.layer_settings import LayerSetting


class DropPath(LayerSetting):
    """Leaves residual branches out at random, during fit (Huang et al. 2016, eq. 2 and 4).

    Sets every :class:`trainoff.modules.nets.drop_path.DropPath` of the module: the l-th of L drops a share p · l / L
    of the samples. A module without any is refused.

    Args:
        p: Share of samples for which the last branch is left out, in [0, 1).

    Raises:
        UserError: For a share outside [0, 1).
    """

    def __init__(self, p: float = 0.1) -> None:
        if not 0 <= p < 1:
            raise UserError(f"the share of samples lies in [0, 1), not {p}", "p")
        super().__init__(p)

    def layers_of(self, module: nn.Module) -> Sequence[nn.Module]:
        """The ends of the residual branches, in the order in which they are registered."""
        layers = [layer for layer in module.modules() if isinstance(layer, DropPathLayer)]
        if not layers:
            raise UserError(
                f"{type(module).__name__} has no residual branch that can be left out; resnet20 has, and a "
                "trainoff.modules.nets.drop_path.DropPath() at the end of each branch makes your own net ready",
                "drop_path",
            )
        return layers

    def share_of(self, number: int, count: int) -> float:
        """The deeper the larger."""
        return share_at_depth(self.p, number, count)
