"""GoogLeNet, which is Inception v1, with batch norm."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from trainoff.modules.nets.layers import Norm, check_one_of, check_widths, convolution, dropout_place, image_sizes

# Table 1 of the paper, for a width of 64. Of each block: the 1 x 1 branch; the 3 x 3 branch, reduced and full; the
# "5 x 5" branch, reduced and full; the pooling branch. Max pooling comes between the three stages.
STAGES = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)

# Each stem's smallest image, of which the poolings leave a pixel.
_SMALLEST = {"imagenet": 15, "small": 2}


class Inception(nn.Module):
    """Four branches side by side, their channels concatenated (Szegedy et al. 2015, figure 2 b).

    From (batch, inputs, height, width) to (batch, the sum of the branches' channels, height, width).

    Args:
        inputs: Channels.
        branches: Channels of the 1 x 1 branch; of the 3 x 3 branch, after its 1 x 1 and after its 3 x 3 convolution;
            likewise of the branch that is 5 x 5 in the paper; of the 1 x 1 convolution after 3 x 3 max pooling.
        activation: By name.
        norm: By name.
    """

    def __init__(self, inputs: int, branches: Sequence[int], activation: str, norm: Norm) -> None:
        super().__init__()
        one, reduced_three, three, reduced_five, five, pooled = branches
        self.channels = one + three + five + pooled
        self.one = convolution(inputs, one, 1, activation, norm)
        self.three = nn.Sequential(
            convolution(inputs, reduced_three, 1, activation, norm),
            convolution(reduced_three, three, 3, activation, norm, padding=1),
        )
        self.five = nn.Sequential(
            convolution(inputs, reduced_five, 1, activation, norm),
            convolution(reduced_five, five, 3, activation, norm, padding=1),
        )
        self.pooled = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1), convolution(inputs, pooled, 1, activation, norm)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The four branches, one after the other in the channels."""
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pooled(x)], dim=1)


class GoogLeNet(nn.Module):
    """GoogLeNet (Szegedy et al. 2015, table 1) with batch norm, without auxiliary heads, as in torchvision.

    A stem, nine Inception blocks in three stages with max pooling between, the mean over positions, dropout, the
    output. As in torchvision and in TensorFlow-Slim, the branch that is 5 x 5 in the paper is 3 x 3. The norm's ε is
    torch's 1e-5, where theirs is 1e-3.

    The stem ``imagenet`` takes 224 x 224 to 28 x 28: 7 x 7 with stride 2, pooling, 1 x 1, 3 x 3, pooling. The stem
    ``small`` is one 3 x 3 convolution that keeps the size.

    The paper does not say how weights start; here convolutions by He et al. 2015, normal with variance 2 / fan in, and
    the output as torch's layers do.

    Parameters: 6,624,904 for images of three channels and a thousand classes.

    Args:
        input_shape: (channels, height, width), from 15 x 15, with the stem ``small`` from 2 x 2.
        output_size: Number of outputs.
        width: Channels of the first convolution; 64 in the paper. All others change in proportion, rounded down.
        stem: ``imagenet`` or ``small``.
        activation: See :data:`trainoff.modules.nets.layers.ACTIVATIONS`.
        norm: After each convolution; see :func:`trainoff.modules.nets.layers.norm_layer`.
        dropout: Share of the output's inputs that is zeroed in training, in [0, 1); 0.4 in the paper, 0.2 in
            torchvision.

    Raises:
        UserError: For inputs that are no images or too small, an unknown stem, activation or norm, or a width or share
            that makes no sense.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_size: int,
        width: int = 64,
        stem: str = "imagenet",
        activation: str = "relu",
        norm: Norm = "batch",
        dropout: float = 0.4,
    ) -> None:
        super().__init__()
        check_one_of("stem", stem, _SMALLEST)
        check_widths("width", [width])
        instead = "stem: small takes them from 2 x 2" if stem == "imagenet" else ""
        input_channels, _, _ = image_sizes(input_shape, _SMALLEST[stem], instead)
        channels = 3 * width
        if stem == "imagenet":
            self.stem = nn.Sequential(
                convolution(input_channels, width, 7, activation, norm, stride=2, padding=3),
                nn.MaxPool2d(3, stride=2, ceil_mode=True),
                convolution(width, width, 1, activation, norm),
                convolution(width, channels, 3, activation, norm, padding=1),
                nn.MaxPool2d(3, stride=2, ceil_mode=True),
            )
        else:
            self.stem = convolution(input_channels, channels, 3, activation, norm, padding=1)
        self.blocks = nn.Sequential()
        for stage, pooling in zip(STAGES, (3, 2, None), strict=True):
            for numbers in stage:
                branches = [max(1, number * width // 64) for number in numbers]
                block = Inception(channels, branches, activation, norm)
                self.blocks.append(block)
                channels = block.channels
            if pooling is not None:
                self.blocks.append(nn.MaxPool2d(pooling, stride=2, ceil_mode=True))
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
