"""DeepOBS's net with three convolutional and three dense layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from trainoff.modules.nets.layers import Norm, check_widths, convolution, dropout_place, image_sizes
from trainoff.modules.nets.layers import activation as activation_named


def same_max_pool(height: int, width: int) -> nn.MaxPool2d:
    """Max pooling over 3 x 3 with stride 2 that halves a side and rounds up: TensorFlow's padding "same".

    TensorFlow adds one row at the end of an even side, and one at each end of an odd side.
    """
    return nn.MaxPool2d(3, stride=2, padding=(height % 2, width % 2), ceil_mode=True)


class DeepObs3c3d(nn.Module):
    """The net of DeepOBS's problems ``cifar10_3c3d`` and ``cifar100_3c3d`` (Schneider, Balles & Hennig 2019).

    Three convolutions (5 x 5 and 3 x 3 without padding, 3 x 3 with padding), each followed by max pooling over 3 x 3
    with stride 2, then dense layers of 512 and 256 units and the output. (3, 32, 32) becomes 128 maps of 3 x 3.

    It starts as DeepOBS does (``deepobs/tensorflow/testproblems/_3c3d.py``): convolutions Xavier normal, dense layers
    Xavier uniform (Glorot & Bengio 2010), biases 0.

    Parameters: 895,210 for images of (3, 32, 32) and ten classes.

    Args:
        input_shape: (channels, height, width), from 9 x 9.
        output_size: Number of outputs.
        channels: Of the three convolutions.
        dense: Widths of the two hidden dense layers.
        activation: See :data:`trainoff.modules.nets.layers.ACTIVATIONS`.
        norm: After each convolution; see :func:`trainoff.modules.nets.layers.norm_layer`.
        dropout: Share of each dense layer's inputs that is zeroed in training, in [0, 1).

    Raises:
        UserError: For inputs that are no images or too small, an unknown activation or norm, or a width or share that
            makes no sense.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_size: int,
        channels: Sequence[int] = (64, 96, 128),
        dense: Sequence[int] = (512, 256),
        activation: str = "relu",
        norm: Norm = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_widths("channels", channels, count=3)
        check_widths("dense", dense, count=2)
        input_channels, height, width = image_sizes(input_shape, smallest=9)
        sides = [(height - 4, width - 4)]  # after the first convolution, then after each pooling
        for removed in (2, 0, 0):  # by the convolution that follows
            sides.append((-(-sides[-1][0] // 2) - removed, -(-sides[-1][1] // 2) - removed))
        self.convolutions = nn.Sequential(
            convolution(input_channels, channels[0], 5, activation, norm),
            same_max_pool(*sides[0]),
            convolution(channels[0], channels[1], 3, activation, norm),
            same_max_pool(*sides[1]),
            convolution(channels[1], channels[2], 3, activation, norm, padding=1),
            same_max_pool(*sides[2]),
            nn.Flatten(),
        )
        rows, columns = sides[3]
        self.dense = nn.Sequential(
            dropout_place(dropout),
            nn.Linear(channels[2] * rows * columns, dense[0]),
            activation_named(activation),
            dropout_place(dropout),
            nn.Linear(dense[0], dense[1]),
            activation_named(activation),
            dropout_place(dropout),
            nn.Linear(dense[1], output_size),
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_normal_(layer.weight)
            elif isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
            if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, height, width) to (batch, output_size)."""
        return self.dense(self.convolutions(x))  # type: ignore[no-any-return]
