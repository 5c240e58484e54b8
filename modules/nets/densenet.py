"""The DenseNets, DenseNet-121 among them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from trainoff.errors import UserError
from trainoff.modules.nets.layers import (
    Norm,
    check_one_of,
    check_widths,
    convolution,
    dropout_place,
    image_sizes,
    norm_layer,
)
from trainoff.modules.nets.layers import activation as activation_named


class DenseLayer(nn.Sequential):
    """Norm, activation, 1 x 1 convolution, norm, activation, 3 x 3 convolution, dropout (section 3, DenseNet-B).

    From (batch, inputs, height, width) to (batch, growth, height, width).

    Args:
        inputs: Channels.
        growth: New channels.
        bottleneck: Channels between the two convolutions, in multiples of ``growth``.
        activation: By name.
        norm: By name.
        dropout: Share of the new channels' values that is zeroed in training.
    """

    def __init__(self, inputs: int, growth: int, bottleneck: int, activation: str, norm: Norm, dropout: float) -> None:
        super().__init__(
            norm_layer(norm, inputs, dimensions=2),
            activation_named(activation),
            nn.Conv2d(inputs, bottleneck * growth, 1, bias=norm is None),
            norm_layer(norm, bottleneck * growth, dimensions=2),
            activation_named(activation),
            nn.Conv2d(bottleneck * growth, growth, 3, padding=1, bias=norm is None),
            dropout_place(dropout),
        )


class DenseBlock(nn.Module):
    """Each layer sees all that came before it: xₗ = H([x₀, x₁, ..., xₗ₋₁]) (Huang et al. 2017, eq. 2).

    From (batch, inputs, height, width) to (batch, inputs + layers · growth, height, width).

    Args:
        layers: The H in their order.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The input and each layer's new channels, one after the other."""
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        return x


class DenseNet(nn.Module):
    """DenseNet-BC (Huang et al. 2017): blocks in which each layer sees all earlier ones, halved in between.

    A stem of 2 · ``growth`` channels, dense blocks, and between two of them a transition: norm, activation, a 1 x 1
    convolution to half the channels, average pooling over 2 x 2. At the end norm, activation, the mean over positions,
    the output. A side of odd length is pooled as if it were one longer, so that images of any size pass.

    The stem ``imagenet`` is a 7 x 7 convolution with stride 2 and max pooling over 3 x 3 with stride 2; ``small``, for
    CIFAR, is one 3 x 3 convolution. Weights start as in the paper: convolutions by He et al. 2015, normal with
    variance 2 / fan in; the output's biases 0.

    ============= ================== ======== ========= ============================
    net           blocks             growth   stem      parameters
    ============= ================== ======== ========= ============================
    DenseNet-121  6, 12, 24, 16      32       imagenet  7,978,856 (1000 classes)
    DenseNet-169  6, 12, 32, 32      32       imagenet  14,149,480
    DenseNet-201  6, 12, 48, 32      32       imagenet  20,013,928
    DenseNet-161  6, 12, 36, 24      48       imagenet  28,681,000
    CIFAR, k = 12 16, 16, 16         12       small     769,162 (10 classes)
    ============= ================== ======== ========= ============================

    Args:
        input_shape: (channels, height, width).
        output_size: Number of outputs.
        blocks: Layers of each dense block; their sum, doubled, is most of the depth.
        growth: Channels that each layer adds, k in the paper.
        bottleneck: Channels between a layer's two convolutions, in multiples of ``growth``.
        stem: ``imagenet`` or ``small``.
        activation: See :data:`trainoff.modules.nets.layers.ACTIVATIONS`.
        norm: Before each convolution; see :func:`trainoff.modules.nets.layers.norm_layer`.
        dropout: Share of each layer's new values that is zeroed in training, in [0, 1); 0.2 in the paper where there
            is no augmentation.

    Raises:
        UserError: For inputs that are no images, an unknown stem, activation or norm, or a width or share that makes
            no sense.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_size: int,
        blocks: Sequence[int] = (6, 12, 24, 16),
        growth: int = 32,
        bottleneck: int = 4,
        stem: str = "imagenet",
        activation: str = "relu",
        norm: Norm = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        input_channels, _, _ = image_sizes(input_shape)
        check_one_of("stem", stem, ("imagenet", "small"))
        check_widths("blocks", blocks)
        check_widths("growth", [growth])
        check_widths("bottleneck", [bottleneck])
        if not blocks:
            raise UserError("a DenseNet has at least one block, such as [6, 12, 24, 16]", "blocks")
        channels = 2 * growth
        if stem == "imagenet":
            self.features = convolution(input_channels, channels, 7, activation, norm, stride=2, padding=3)
            self.features.append(nn.MaxPool2d(3, stride=2, padding=1))
        else:
            self.features = nn.Sequential(nn.Conv2d(input_channels, channels, 3, padding=1, bias=norm is None))
        for number, count in enumerate(blocks):
            if number > 0:
                self.features.extend(_transition(channels, channels // 2, activation, norm))
                channels //= 2
            layers = [
                DenseLayer(channels + n * growth, growth, bottleneck, activation, norm, dropout) for n in range(count)
            ]
            self.features.append(DenseBlock(layers))
            channels += count * growth
        self.features.extend([norm_layer(norm, channels, dimensions=2), activation_named(activation)])
        self.pooling = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.output = nn.Linear(channels, output_size)
        nn.init.zeros_(self.output.bias)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, height, width) to (batch, output_size)."""
        return self.output(self.flatten(self.pooling(self.features(x))))  # type: ignore[no-any-return]


def _transition(inputs: int, outputs: int, activation: str, norm: Norm) -> list[nn.Module]:
    """What halves channels and sides between two blocks (section 3, pooling layers and compression)."""
    return [
        norm_layer(norm, inputs, dimensions=2),
        activation_named(activation),
        nn.Conv2d(inputs, outputs, 1, bias=norm is None),
        nn.AvgPool2d(2, ceil_mode=True),
    ]
