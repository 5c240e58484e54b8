"""LeNet-5."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from trainoff.errors import UserError
from trainoff.modules.nets.layers import activation as activation_named
from trainoff.modules.nets.layers import dropout_place, image_sizes


class LeNet5(nn.Module):
    """The convolutional net for handwritten digits (LeCun et al. 1998).

    Two 5 x 5 convolutions (6 and 16 channels), each followed by average pooling over 2 x 2, then dense layers of 120
    and 84 units. As in the paper: images of 32 x 32, tanh. Otherwise than in the paper, as is usual today: pooling
    has no coefficients, the second convolution sees all six maps, and the output is affine.

    Images under 32 pixels in height or width get a border of 2 zeros in the first convolution: 28 x 28 becomes
    32 x 32, and the net is the same from there on.

    Parameters: 61,706 for ten classes and one channel, at 32 x 32 and at 28 x 28.

    Args:
        input_shape: (channels, height, width), from 12 x 12.
        output_size: Number of outputs.
        activation: See :data:`trainoff.modules.nets.layers.ACTIVATIONS`.
        dropout: Share of each dense layer's inputs that is zeroed in training, in [0, 1).

    Raises:
        UserError: For inputs that are no images or too small, an unknown activation, a share outside [0, 1).
    """

    def __init__(
        self, input_shape: Sequence[int], output_size: int, activation: str = "tanh", dropout: float = 0.0
    ) -> None:
        super().__init__()
        channels, height, width = image_sizes(input_shape)
        border = 2 if min(height, width) < 32 else 0
        # 5 x 5 takes 4 off a side, pooling halves it.
        rows, columns = (((side + 2 * border - 4) // 2 - 4) // 2 for side in (height, width))
        if min(rows, columns) < 1:
            raise UserError(f"lenet5 takes images from 12 x 12, not {height} x {width}", "input_shape")
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, 6, kernel_size=5, padding=border),
            activation_named(activation),
            nn.AvgPool2d(2),
            nn.Conv2d(6, 16, kernel_size=5),
            activation_named(activation),
            nn.AvgPool2d(2),
            nn.Flatten(),
        )
        self.dense = nn.Sequential(
            dropout_place(dropout),
            nn.Linear(16 * rows * columns, 120),
            activation_named(activation),
            dropout_place(dropout),
            nn.Linear(120, 84),
            activation_named(activation),
            dropout_place(dropout),
            nn.Linear(84, output_size),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, height, width) to (batch, output_size)."""
        return self.dense(self.convolutions(x))  # type: ignore[no-any-return]
