"""The residual nets for CIFAR, ResNet-20 among them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.nets.drop_path import DropPath, set_drop_path
from trainoff.modules.nets.layers import Norm, check_widths, dropout_place, image_sizes, norm_layer
from trainoff.modules.nets.layers import activation as activation_named


def shortcut(x: torch.Tensor, channels: int, stride: int) -> torch.Tensor:
    """He et al.'s option A, an identity without parameters: every ``stride``-th pixel, new channels zero.

    Args:
        x: (batch, fewer or equal channels, height, width).
        channels: Of the result; the new ones come last.
        stride: Distance between the pixels that are kept.
    """
    return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, 0, channels - x.shape[1]))


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions around which the input is added: y = φ(x + F(x)).

    From (batch, input_channels, height, width) to (batch, channels, height / stride, width / stride), rounded up.

    Args:
        input_channels: Of the input.
        channels: Of the output, at least as many.
        stride: Of the first convolution.
        activation: By name.
        norm: By name; without one the convolutions have biases.
    """

    def __init__(self, input_channels: int, channels: int, stride: int, activation: str, norm: Norm) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride
        self.convolution1 = nn.Conv2d(input_channels, channels, 3, stride, padding=1, bias=norm is None)
        self.norm1 = norm_layer(norm, channels, dimensions=2)
        self.activation1 = activation_named(activation)
        self.convolution2 = nn.Conv2d(channels, channels, 3, padding=1, bias=norm is None)
        self.norm2 = norm_layer(norm, channels, dimensions=2)
        self.drop_path = DropPath()
        self.activation2 = activation_named(activation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The input plus what the two convolutions make of it."""
        residual = self.activation1(self.norm1(self.convolution1(x)))
        residual = self.drop_path(self.norm2(self.convolution2(residual)))
        return self.activation2(shortcut(x, self.channels, self.stride) + residual)  # type: ignore[no-any-return]

    def residual_branch(self) -> list[nn.Module]:
        """The layers of F in their order, for initialisations that treat branches apart."""
        return [self.convolution1, self.norm1, self.convolution2, self.norm2]


class CifarResNet(nn.Module):
    """The residual net for small images (He et al. 2016, section 4.2).

    A 3 x 3 convolution, three stages of n residual blocks with 1, 2 and 4 times ``width`` channels, the second and
    third at half and a quarter of the resolution, the mean over positions, a dense layer: 6n + 2 layers with weights.
    Shortcuts are the paper's option A. Convolutions start as in the paper, by He et al. 2015: normal with variance
    2 / fan in.

    Parameters at depth 20, for ten classes: 269,722 on (3, 32, 32), 269,434 on (1, 28, 28); published as 0.27 M.

    Args:
        input_shape: (channels, height, width).
        output_size: Number of outputs.
        depth: 8, 14, 20, 26, ...
        width: Channels of the first stage.
        activation: See :data:`trainoff.modules.nets.layers.ACTIVATIONS`.
        norm: ``batch``, ``ghost_batch``, ``layer``, ``group``, ``instance``, ``rms`` or None; see
            :func:`trainoff.modules.nets.layers.norm_layer`.
        dropout: Share of the dense layer's inputs that is zeroed in training, in [0, 1).
        drop_path: Share of samples for which the last block is left out in training, in [0, 1); earlier blocks less,
            in proportion to their depth.

    Raises:
        UserError: For inputs that are no images, a depth that is not 6n + 2, an unknown activation or norm, or a
            width or share that makes no sense.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_size: int,
        depth: int = 20,
        width: int = 16,
        activation: str = "relu",
        norm: Norm = "batch",
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        input_channels, _, _ = image_sizes(input_shape)
        check_widths("width", [width])
        blocks, rest = divmod(depth - 2, 6)
        if blocks < 1 or rest:
            raise UserError(f"the depth is 6n + 2, such as 8, 14 or 20, not {depth}", "depth")
        self.stem = nn.Sequential(
            nn.Conv2d(input_channels, width, 3, padding=1, bias=norm is None),
            norm_layer(norm, width, dimensions=2),
            activation_named(activation),
        )
        self.blocks = nn.Sequential()
        channels = width
        for stage in range(3):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                self.blocks.append(ResidualBlock(channels, width * 2**stage, stride, activation, norm))
                channels = width * 2**stage
        set_drop_path(self, drop_path)
        self.pooling = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = dropout_place(dropout)
        self.output = nn.Linear(channels, output_size)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, height, width) to (batch, output_size)."""
        x = self.blocks(self.stem(x))
        return self.output(self.dropout(self.flatten(self.pooling(x))))  # type: ignore[no-any-return]
