"""Dropout at the places that the net has for it."""

from __future__ import annotations

from collections.abc import Sequence

import lightning as L
from torch import nn

from trainoff.errors import UserError
from trainoff.modules.regularizers.layer_settings import LayerSetting

# nn.modules.dropout._DropoutNd is the common base, but private; these are its public children.
_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


class Dropout(LayerSetting):
    """Sets the probability of every dropout layer of the module, during fit (Srivastava et al. 2014).

    trainoff's nets have such layers at the usual places, with probability 0 by default or with their paper's; a module
    without any is refused.

    Args:
        p: Share of activations that are zeroed in training, in [0, 1).

    Raises:
        UserError: For a share outside [0, 1).
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p < 1:
            raise UserError(f"a dropout probability lies in [0, 1), not {p}", "p")
        super().__init__(p)

    def layers_of(self, module: L.LightningModule) -> Sequence[nn.Module]:
        """Torch's dropout layers."""
        layers = [layer for layer in module.modules() if isinstance(layer, _DROPOUT)]
        if not layers:
            raise UserError(
                f"{type(module).__name__} has no dropout layer to set; put nn.Dropout() where it should act",
                "dropout",
            )
        return layers
