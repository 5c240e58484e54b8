"""The all-convolutional net All-CNN-C."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from trainoff.modules.nets.layers import Norm, check_widths, convolution, dropout_place, image_sizes


class AllCNNC(nn.Module):
    """All-CNN-C (Springenberg et al. 2015, tables 1 and 2): convolutions only, also where others pool.

    ====================================== ==============
    layers                                 (3, 32, 32) is
    ====================================== ==============
    3 x 3, 3 x 3, 3 x 3 with stride 2      (96, 16, 16)
    3 x 3, 3 x 3, 3 x 3 with stride 2      (192, 8, 8)
    3 x 3 without padding, 1 x 1           (192, 6, 6)
    1 x 1 to the outputs                   (10, 6, 6)
    mean over the positions                (10,)
    ====================================== ==============

    An activation follows each convolution, also the last one, as in the paper. The paper does not say how weights
    start; here as in DeepOBS's problem ``cifar100_allcnnc``: Xavier normal (Glorot & Bengio 2010), biases 0.1.
    A strided convolution has a border of one zero on all sides, where DeepOBS's (TensorFlow) pads the end only.

    Parameters on (3, 32, 32): 1,369,738 for ten classes, 1,387,108 for a hundred.

    Args:
        input_shape: (channels, height, width), from 9 x 9.
        output_size: Number of outputs.
        width: Channels of the first three convolutions; the later ones have twice as many.
        activation: See :data:`trainoff.modules.nets.layers.ACTIVATIONS`.
        norm: After each convolution but the last; see :func:`trainoff.modules.nets.layers.norm_layer`.
        dropout: Share that is zeroed in training after each strided convolution, in [0, 1); 0.5 in the paper.
        input_dropout: The share of the input; 0.2 in the paper.

    Raises:
        UserError: For inputs that are no images or too small, an unknown activation or norm, or a width or share that
            makes no sense.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_size: int,
        width: int = 96,
        activation: str = "relu",
        norm: Norm = None,
        dropout: float = 0.5,
        input_dropout: float = 0.2,
    ) -> None:
        super().__init__()
        # Two halvings, rounded up, leave the 3 pixels that the 3 x 3 convolution without padding takes.
        input_channels, _, _ = image_sizes(input_shape, smallest=9)
        check_widths("width", [width])
        self.layers = nn.Sequential(
            dropout_place(input_dropout),
            convolution(input_channels, width, 3, activation, norm, padding=1),
            convolution(width, width, 3, activation, norm, padding=1),
            convolution(width, width, 3, activation, norm, stride=2, padding=1),
            dropout_place(dropout),
            convolution(width, 2 * width, 3, activation, norm, padding=1),
            convolution(2 * width, 2 * width, 3, activation, norm, padding=1),
            convolution(2 * width, 2 * width, 3, activation, norm, stride=2, padding=1),
            dropout_place(dropout),
            convolution(2 * width, 2 * width, 3, activation, norm),
            convolution(2 * width, 2 * width, 1, activation, norm),
            convolution(2 * width, output_size, 1, activation, norm=None),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_normal_(layer.weight)
                if layer.bias is not None:
                    nn.init.constant_(layer.bias, 0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, height, width) to (batch, output_size)."""
        return self.layers(x)  # type: ignore[no-any-return]
