"""DeepOBS's net with two convolutional and two dense layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from trainoff.modules.nets.layers import activation as activation_named
from trainoff.modules.nets.layers import check_widths, dropout_place, image_sizes


class DeepObs2c2d(nn.Module):
    """The net of DeepOBS's problems ``mnist_2c2d`` and ``fmnist_2c2d`` (Schneider, Balles & Hennig 2019).

    Two 5 x 5 convolutions that keep the image's size, each followed by max pooling over 2 x 2, then a hidden and an
    output dense layer. A side of odd length is pooled as if a row were added to it, as TensorFlow's "same" does.

    Its initialisation is DeepOBS's (``deepobs/tensorflow/testproblems/_2c2d.py``), not torch's: weights normal with
    standard deviation 0.05, drawn again beyond 0.1; biases 0.05.

    Parameters: 3,274,634 for images of (1, 28, 28) and ten classes.

    Args:
        input_shape: (channels, height, width).
        output_size: Number of outputs.
        channels: Of the two convolutions.
        dense: Width of the hidden dense layer.
        activation: See :data:`trainoff.modules.nets.layers.ACTIVATIONS`.
        dropout: Share of each dense layer's inputs that is zeroed in training, in [0, 1).

    Raises:
        UserError: For inputs that are no images, an unknown activation, or a width or share that makes no sense.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_size: int,
        channels: Sequence[int] = (32, 64),
        dense: int = 1024,
        activation: str = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_widths("channels", channels, count=2)
        check_widths("dense", [dense])
        input_channels, height, width = image_sizes(input_shape)
        rows, columns = (-(-side // 4) for side in (height, width))
        self.convolutions = nn.Sequential(
            nn.Conv2d(input_channels, channels[0], kernel_size=5, padding="same"),
            activation_named(activation),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(channels[0], channels[1], kernel_size=5, padding="same"),
            activation_named(activation),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Flatten(),
        )
        self.dense = nn.Sequential(
            dropout_place(dropout),
            nn.Linear(channels[1] * rows * columns, dense),
            activation_named(activation),
            dropout_place(dropout),
            nn.Linear(dense, output_size),
        )
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.trunc_normal_(layer.weight, std=0.05, a=-0.1, b=0.1)
                nn.init.constant_(layer.bias, 0.05)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, height, width) to (batch, output_size)."""
        return self.dense(self.convolutions(x))  # type: ignore[no-any-return]
