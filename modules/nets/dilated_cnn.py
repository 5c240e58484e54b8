"""Dilated convolutions in two dimensions: a wide view at full resolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from trainoff.modules.nets.layers import Norm, check_widths, dropout_place, image_sizes, norm_layer
from trainoff.modules.nets.layers import activation as activation_named


class DilatedCNN(nn.Module):
    """The context module of Yu & Koltun 2016 (table 1), as a classifier.

    3 x 3 convolutions with the given dilations, each with norm and activation, that keep the image's size, and a 1 x 1
    convolution; then, for a classifier, the mean over positions and a dense layer. Nothing is pooled before that: the
    dilations widen the view. A position of the last map sees 1 + 2 Σ dilations pixels each way: 67 at the defaults,
    the paper's. Convolutions start by He et al. 2015: normal with variance 2 / fan in (the paper's identity is for a
    module behind a trained net).

    Args:
        input_shape: (channels, height, width).
        output_size: Number of outputs.
        dilations: One for each 3 x 3 convolution.
        width: Channels of every convolution.
        activation: See :data:`trainoff.modules.nets.layers.ACTIVATIONS`.
        norm: See :func:`trainoff.modules.nets.layers.norm_layer`.
        dropout: Share of the dense layer's inputs that is zeroed in training, in [0, 1).

    Raises:
        UserError: For inputs that are no images, an unknown activation or norm, or a number that makes no sense.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_size: int,
        dilations: Sequence[int] = (1, 1, 2, 4, 8, 16, 1),
        width: int = 32,
        activation: str = "relu",
        norm: Norm = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        channels, _, _ = image_sizes(input_shape)
        check_widths("dilations", dilations)
        check_widths("width", [width])
        self.context = nn.Sequential()
        for dilation in dilations:
            self.context.append(nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation, bias=norm is None))
            self.context.append(norm_layer(norm, width, dimensions=2))
            self.context.append(activation_named(activation))
            channels = width
        self.context.append(nn.Conv2d(channels, width, 1))
        self.pooling = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = dropout_place(dropout)
        self.output = nn.Linear(width, output_size)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, height, width) to (batch, output_size)."""
        features = self.flatten(self.pooling(self.context(x)))
        return self.output(self.dropout(features))  # type: ignore[no-any-return]
