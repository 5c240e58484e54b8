"""Residual nets with squeeze-and-excitation, SE-ResNet-50 among them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from trainoff.modules.nets.layers import Norm, check_widths
from trainoff.modules.nets.resnet import ResNet


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate that depends on the whole image (Hu, Shen & Sun 2018, eq. 2 to 4).

    z = mean of x over height and width; s = σ(W₂ ReLU(W₁ z + b₁) + b₂); y = s · x. Inputs and outputs: (batch,
    channels, height, width).

    Args:
        channels: Of the input.
        reduction: The paper's r: W₁ gives channels / r numbers, at least one.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        narrow = max(1, channels // reduction)
        self.excitation = nn.Sequential(
            nn.Linear(channels, narrow), nn.ReLU(), nn.Linear(narrow, channels), nn.Sigmoid()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The channels, each times its gate."""
        return x * self.excitation(x.mean((2, 3)))[:, :, None, None]  # type: ignore[no-any-return]


class SEResNet(ResNet):
    """A residual net whose branches end in squeeze-and-excitation (Hu, Shen & Sun 2018, figure 3).

    :class:`trainoff.modules.nets.resnet.ResNet` otherwise.

    Parameters at depth 50 for (3, 224, 224) and 1000 classes: 28,088,024; published as 28.1 M.

    Args:
        input_shape: (channels, height, width).
        output_size: Number of outputs.
        depth: 10, 14, 18, 26, 34, 50, 101 or 152.
        width: Channels of the first stage (a quarter of them with bottlenecks).
        reduction: Channels for each number in the gate's hidden layer, the paper's r.
        stem: ``imagenet`` or ``small``.
        activation: See :data:`trainoff.modules.nets.layers.ACTIVATIONS`; the gate keeps the paper's ReLU and sigmoid.
        norm: See :func:`trainoff.modules.nets.layers.norm_layer`.
        dropout: Share of the dense layer's inputs that is zeroed in training, in [0, 1).
        drop_path: Share of samples for which the last block's branch is left out in training, in [0, 1).

    Raises:
        UserError: As :class:`trainoff.modules.nets.resnet.ResNet`, and for a reduction that is no positive number.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_size: int,
        depth: int = 50,
        width: int = 64,
        reduction: int = 16,
        stem: str = "imagenet",
        activation: str = "relu",
        norm: Norm = "batch",
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        check_widths("reduction", [reduction])
        super().__init__(input_shape, output_size, depth, width, stem, activation, norm, dropout, drop_path)
        for block in self.residual_blocks():
            block.branch.append(SqueezeExcitation(block.channels, reduction))
