"""Wide residual nets, WRN-28-10 among them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from trainoff.errors import UserError
from trainoff.modules.nets.drop_path import DropPath, set_drop_path
from trainoff.modules.nets.layers import Norm, check_widths, dropout_place, image_sizes, norm_layer
from trainoff.modules.nets.layers import activation as activation_named


class WideResidualBlock(nn.Module):
    """Two 3 x 3 convolutions, each after norm and activation, with dropout between them (figure 1 d).

    a = φ(norm(x)); y = x + F(a), or where the shape changes y = W ∗ a + F(a) with a 1 x 1 convolution W, which sees
    the activated input, as in the authors' code. From (batch, inputs, height, width) to (batch, channels,
    height / stride, width / stride), rounded up.

    Args:
        inputs: Channels of the input.
        channels: Of the output.
        stride: Of the first convolution and of the shortcut.
        activation: By name.
        norm: By name; without one the convolutions have biases.
        dropout: Share of the second convolution's inputs that is zeroed in training.
    """

    def __init__(self, inputs: int, channels: int, stride: int, activation: str, norm: Norm, dropout: float) -> None:
        super().__init__()
        self.norm1 = norm_layer(norm, inputs, dimensions=2)
        self.activation1 = activation_named(activation)
        self.convolution1 = nn.Conv2d(inputs, channels, 3, stride, padding=1, bias=norm is None)
        self.norm2 = norm_layer(norm, channels, dimensions=2)
        self.activation2 = activation_named(activation)
        self.dropout = dropout_place(dropout)
        self.convolution2 = nn.Conv2d(channels, channels, 3, padding=1, bias=norm is None)
        self.drop_path = DropPath()
        changes = stride != 1 or inputs != channels
        self.shortcut = nn.Conv2d(inputs, channels, 1, stride, bias=norm is None) if changes else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The shortcut plus what the two convolutions make of the input."""
        activated = self.activation1(self.norm1(x))
        residual = self.activation2(self.norm2(self.convolution1(activated)))
        residual = self.drop_path(self.convolution2(self.dropout(residual)))
        return residual + (x if self.shortcut is None else self.shortcut(activated))  # type: ignore[no-any-return]

    def residual_branch(self) -> list[nn.Module]:
        """The layers of F in their order, for initialisations that treat branches apart."""
        return [self.norm1, self.convolution1, self.norm2, self.convolution2]


class WideResNet(nn.Module):
    """The wide residual net for small images (Zagoruyko & Komodakis 2016, table 1).

    A 3 x 3 convolution, three stages of n residual blocks with 1, 2 and 4 times ``width`` · ``widening`` channels,
    the second and third at half and a quarter of the resolution, norm and activation, the mean over positions, a dense
    layer: depth 6n + 4. Convolutions start by He et al. 2015: normal with variance 2 / fan in.

    Parameters of WRN-28-10, for (3, 32, 32) and ten classes: 36,479,194; published as 36.5 M.

    Args:
        input_shape: (channels, height, width).
        output_size: Number of outputs.
        depth: 10, 16, 22, 28, ...
        widening: The paper's k.
        width: Channels of the first convolution.
        activation: See :data:`trainoff.modules.nets.layers.ACTIVATIONS`.
        norm: See :func:`trainoff.modules.nets.layers.norm_layer`.
        dropout: Share of the inputs of each block's second convolution that is zeroed in training, in [0, 1); the
            paper's is 0 or 0.3.
        drop_path: Share of samples for which the last block's branch is left out in training, in [0, 1); earlier ones
            less, in proportion to their depth.

    Raises:
        UserError: For inputs that are no images, a depth that is not 6n + 4, an unknown activation or norm, or a
            width or share that makes no sense.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_size: int,
        depth: int = 28,
        widening: int = 10,
        width: int = 16,
        activation: str = "relu",
        norm: Norm = "batch",
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        input_channels, _, _ = image_sizes(input_shape)
        check_widths("width", [width])
        check_widths("widening", [widening])
        count, rest = divmod(depth - 4, 6)
        if count < 1 or rest:
            raise UserError(f"the depth is 6n + 4, such as 10, 16 or 28, not {depth}", "depth")
        self.stem = nn.Conv2d(input_channels, width, 3, padding=1, bias=norm is None)
        self.blocks = nn.Sequential()
        inputs = width
        for stage in range(3):
            channels = width * widening * 2**stage
            for number in range(count):
                stride = 2 if stage > 0 and number == 0 else 1
                self.blocks.append(WideResidualBlock(inputs, channels, stride, activation, norm, dropout))
                inputs = channels
        set_drop_path(self, drop_path)
        self.norm = norm_layer(norm, inputs, dimensions=2)
        self.activation = activation_named(activation)
        self.pooling = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.output = nn.Linear(inputs, output_size)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, height, width) to (batch, output_size)."""
        x = self.activation(self.norm(self.blocks(self.stem(x))))
        return self.output(self.flatten(self.pooling(x)))  # type: ignore[no-any-return]
