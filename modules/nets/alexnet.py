"""AlexNet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from trainoff.modules.nets.layers import Norm, check_one_of, check_widths, convolution, dropout_place, image_sizes
from trainoff.modules.nets.layers import activation as activation_named

# Each stem's smallest image, of which three (two) poolings over 3 x 3 leave a pixel.
_SMALLEST = {"imagenet": 63, "small": 7}


class AlexNet(nn.Module):
    """AlexNet (Krizhevsky, Sutskever & Hinton 2012) on one device, as in Krizhevsky 2014 and in torchvision.

    Five convolutions, three of them followed by max pooling over 3 x 3 with stride 2, then two dense layers of 4096
    units and the output. Of (3, 224, 224):

    ==================================== ====================== ==================
    layers                               stem ``imagenet``      of (3, 32, 32),
                                                                stem ``small``
    ==================================== ====================== ==================
    11 x 11, stride 4; pooling           (64, 27, 27)
    3 x 3, stride 1; no pooling                                 (64, 32, 32)
    5 x 5; pooling                       (192, 13, 13)          (192, 15, 15)
    3 x 3, 3 x 3, 3 x 3; pooling         (256, 6, 6)            (256, 7, 7)
    mean over parts, of which 6 x 6      (256, 6, 6)            (256, 6, 6)
    ==================================== ====================== ==================

    Local response normalisation is left out, as in torchvision; weights start as torch's layers do.

    Parameters: 61,100,840 for images of three channels and a thousand classes.

    Args:
        input_shape: (channels, height, width), from 63 x 63, with the stem ``small`` from 7 x 7.
        output_size: Number of outputs.
        width: Channels of the first convolution; the others have 3, 6, 4 and 4 times as many.
        dense: Width of the two hidden dense layers.
        stem: ``imagenet`` or ``small``.
        activation: See :data:`trainoff.modules.nets.layers.ACTIVATIONS`.
        norm: After each convolution; see :func:`trainoff.modules.nets.layers.norm_layer`.
        dropout: Share of the hidden dense layers' inputs that is zeroed in training, in [0, 1); 0.5 in the paper.

    Raises:
        UserError: For inputs that are no images or too small, an unknown stem, activation or norm, or a width or share
            that makes no sense.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_size: int,
        width: int = 64,
        dense: int = 4096,
        stem: str = "imagenet",
        activation: str = "relu",
        norm: Norm = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        check_one_of("stem", stem, _SMALLEST)
        check_widths("width", [width])
        check_widths("dense", [dense])
        instead = "stem: small takes them from 7 x 7" if stem == "imagenet" else ""
        input_channels, _, _ = image_sizes(input_shape, _SMALLEST[stem], instead)
        if stem == "imagenet":
            first = convolution(input_channels, width, 11, activation, norm, stride=4, padding=2)
            first.append(nn.MaxPool2d(3, stride=2))
        else:
            first = convolution(input_channels, width, 3, activation, norm, padding=1)
        self.convolutions = nn.Sequential(
            first,
            convolution(width, 3 * width, 5, activation, norm, padding=2),
            nn.MaxPool2d(3, stride=2),
            convolution(3 * width, 6 * width, 3, activation, norm, padding=1),
            convolution(6 * width, 4 * width, 3, activation, norm, padding=1),
            convolution(4 * width, 4 * width, 3, activation, norm, padding=1),
            nn.MaxPool2d(3, stride=2),
            nn.AdaptiveAvgPool2d(6),
            nn.Flatten(),
        )
        self.dense = nn.Sequential(
            dropout_place(dropout),
            nn.Linear(4 * width * 6 * 6, dense),
            activation_named(activation),
            dropout_place(dropout),
            nn.Linear(dense, dense),
            activation_named(activation),
            nn.Linear(dense, output_size),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, height, width) to (batch, output_size)."""
        return self.dense(self.convolutions(x))  # type: ignore[no-any-return]
