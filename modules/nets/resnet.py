"""The residual nets for ImageNet, ResNet-18 and ResNet-50 among them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from trainoff.errors import UserError
from trainoff.modules.nets.drop_path import DropPath, set_drop_path
from trainoff.modules.nets.layers import Norm, check_widths, dropout_place, image_sizes, norm_layer
from trainoff.modules.nets.layers import activation as activation_named

# Blocks in each of the four stages. 18, 34, 50, 101 and 152 are the paper's (table 1); the others have one or two
# blocks a stage, for small experiments.
_BASIC = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
_BOTTLENECK = {14: (1, 1, 1, 1), 26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def basic_branch(inputs: int, channels: int, stride: int, activation: str, norm: Norm) -> list[nn.Module]:
    """Two 3 x 3 convolutions (He et al. 2016, figure 5, left).

    Args:
        inputs: Channels of the input.
        channels: Of the output.
        stride: Of the first convolution.
        activation: By name.
        norm: By name; without one the convolutions have biases.
    """
    return [
        nn.Conv2d(inputs, channels, 3, stride, padding=1, bias=norm is None),
        norm_layer(norm, channels, dimensions=2),
        activation_named(activation),
        nn.Conv2d(channels, channels, 3, padding=1, bias=norm is None),
        norm_layer(norm, channels, dimensions=2),
    ]


def bottleneck_branch(inputs: int, channels: int, stride: int, activation: str, norm: Norm) -> list[nn.Module]:
    """1 x 1, 3 x 3 and 1 x 1 convolutions, the first two of a quarter of the channels (figure 5, right).

    The stride is in the 3 x 3 convolution, as is usual today; the paper's is in the first one. Arguments as in
    :func:`basic_branch`.
    """
    narrow = channels // 4
    return [
        nn.Conv2d(inputs, narrow, 1, bias=norm is None),
        norm_layer(norm, narrow, dimensions=2),
        activation_named(activation),
        nn.Conv2d(narrow, narrow, 3, stride, padding=1, bias=norm is None),
        norm_layer(norm, narrow, dimensions=2),
        activation_named(activation),
        nn.Conv2d(narrow, channels, 1, bias=norm is None),
        norm_layer(norm, channels, dimensions=2),
    ]


class ResidualBlock(nn.Module):
    """A branch around which the input is added: y = φ(shortcut(x) + F(x)).

    The shortcut is the identity, or where the shape changes a 1 x 1 convolution with a norm (He et al. 2016, option
    B). From (batch, inputs, height, width) to (batch, channels, height / stride, width / stride), rounded up.

    Args:
        branch: The layers of F in their order.
        inputs: Channels of the input.
        channels: Of the output.
        stride: Of the branch and of the shortcut.
        activation: By name.
        norm: By name.
    """

    def __init__(
        self, branch: Sequence[nn.Module], inputs: int, channels: int, stride: int, activation: str, norm: Norm
    ) -> None:
        super().__init__()
        self.channels = channels
        self.branch = nn.Sequential(*branch)
        self.drop_path = DropPath()
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != channels:
            self.shortcut.append(nn.Conv2d(inputs, channels, 1, stride, bias=norm is None))
            self.shortcut.append(norm_layer(norm, channels, dimensions=2))
        self.activation = activation_named(activation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The shortcut plus the branch."""
        return self.activation(self.shortcut(x) + self.drop_path(self.branch(x)))  # type: ignore[no-any-return]

    def residual_branch(self) -> list[nn.Module]:
        """The layers of F in their order, for initialisations that treat branches apart."""
        return list(self.branch)


class ResNet(nn.Module):
    """The residual net for images (He et al. 2016, table 1).

    A stem, four stages of residual blocks with 1, 2, 4 and 8 times ``width`` channels (four times as many with
    bottlenecks), each but the first at half the resolution of the one before, the mean over positions, a dense layer.
    Depths 10, 18 and 34 have blocks of two 3 x 3 convolutions, the others bottlenecks. Convolutions start by He et
    al. 2015: normal with variance 2 / fan in.

    Parameters for (3, 224, 224) and 1000 classes: 11,689,512 at depth 18, 21,797,672 at 34, 25,557,032 at 50,
    44,549,160 at 101, 60,192,808 at 152. Their number does not depend on height and width.

    Args:
        input_shape: (channels, height, width).
        output_size: Number of outputs.
        depth: 10, 14, 18, 26, 34, 50, 101 or 152.
        width: Channels of the first stage (a quarter of them with bottlenecks).
        stem: ``imagenet``, a 7 x 7 convolution and max pooling, both of stride 2; or ``small``, a 3 x 3 convolution
            that keeps the resolution, for images of about 32 pixels.
        activation: See :data:`trainoff.modules.nets.layers.ACTIVATIONS`.
        norm: See :func:`trainoff.modules.nets.layers.norm_layer`.
        dropout: Share of the dense layer's inputs that is zeroed in training, in [0, 1).
        drop_path: Share of samples for which the last block's branch is left out in training, in [0, 1); earlier ones
            less, in proportion to their depth.

    Raises:
        UserError: For inputs that are no images, an unknown depth, stem, activation or norm, or a width or share that
            makes no sense.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_size: int,
        depth: int = 18,
        width: int = 64,
        stem: str = "imagenet",
        activation: str = "relu",
        norm: Norm = "batch",
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        input_channels, _, _ = image_sizes(input_shape)
        check_widths("width", [width])
        if depth not in _BASIC and depth not in _BOTTLENECK:
            depths = ", ".join(map(str, sorted(_BASIC | _BOTTLENECK)))
            raise UserError(f"the depth is one of {depths}, not {depth}", "depth")
        bottleneck = depth in _BOTTLENECK
        make_branch = bottleneck_branch if bottleneck else basic_branch
        self.stem = _stem(stem, input_channels, width, activation, norm)
        self.blocks = nn.Sequential()
        inputs = width
        for stage, count in enumerate((_BOTTLENECK if bottleneck else _BASIC)[depth]):
            channels = width * 2**stage * (4 if bottleneck else 1)
            for number in range(count):
                stride = 2 if stage > 0 and number == 0 else 1
                branch = make_branch(inputs, channels, stride, activation, norm)
                self.blocks.append(ResidualBlock(branch, inputs, channels, stride, activation, norm))
                inputs = channels
        set_drop_path(self, drop_path)
        self.pooling = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = dropout_place(dropout)
        self.output = nn.Linear(inputs, output_size)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, height, width) to (batch, output_size)."""
        x = self.blocks(self.stem(x))
        return self.output(self.dropout(self.flatten(self.pooling(x))))  # type: ignore[no-any-return]

    def residual_blocks(self) -> list[ResidualBlock]:
        """The blocks of all stages, in their order."""
        return [block for block in self.blocks if isinstance(block, ResidualBlock)]


class ResNet50(ResNet):
    """:class:`ResNet` whose depth is 50 where none is given; arguments and errors are the same."""

    def __init__(
        self,
        input_shape: Sequence[int],
        output_size: int,
        depth: int = 50,
        width: int = 64,
        stem: str = "imagenet",
        activation: str = "relu",
        norm: Norm = "batch",
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(input_shape, output_size, depth, width, stem, activation, norm, dropout, drop_path)


def _stem(name: str, inputs: int, channels: int, activation: str, norm: Norm) -> nn.Sequential:
    if name not in ("imagenet", "small"):
        raise UserError(f"the stem is imagenet or small, not '{name}'", "stem")
    small = name == "small"
    stem = nn.Sequential(
        nn.Conv2d(inputs, channels, 3 if small else 7, 1 if small else 2, 1 if small else 3, bias=norm is None),
        norm_layer(norm, channels, dimensions=2),
        activation_named(activation),
    )
    return stem if small else stem.append(nn.MaxPool2d(3, stride=2, padding=1))
