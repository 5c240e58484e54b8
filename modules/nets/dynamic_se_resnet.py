"""Residual nets with dynamic convolutions: squeeze-and-excitation that weighs kernels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.nets.layers import Norm, check_widths
from trainoff.modules.nets.resnet import ResNet


class DynamicConv2d(nn.Conv2d):
    """A convolution whose kernel is, for each sample, a mixture of K kernels (Chen et al. 2020, eq. 2 and figure 3).

    z = mean of x over height and width; π = softmax(V₂ ReLU(V₁ z + c₁) + c₂, at temperature τ);
    y = (Σₖ πₖ Wₖ) ∗ x + Σₖ πₖ bₖ. From (batch, inputs, height, width) to (batch, outputs, ...). ``weight`` holds the K
    kernels one after the other: (K · outputs, inputs, side, side).

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.
        side: Of the kernels, odd.
        stride: Between positions.
        bias: Whether each kernel has one.
        kernels: K.
        temperature: τ, above 0.
    """

    def __init__(
        self, inputs: int, outputs: int, side: int, stride: int, bias: bool, kernels: int, temperature: float
    ) -> None:
        super().__init__(inputs, kernels * outputs, side, stride, padding=side // 2, bias=bias)
        self.kernels, self.temperature = kernels, temperature
        narrow = max(1, inputs // 4)
        self.attention = nn.Sequential(nn.Linear(inputs, narrow), nn.ReLU(), nn.Linear(narrow, kernels))

    def shares(self, x: torch.Tensor) -> torch.Tensor:
        """π, which sums to one: (batch, K)."""
        return torch.softmax(self.attention(x.mean((2, 3))) / self.temperature, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Each sample's own convolution."""
        shares = self.shares(x)
        weight = torch.einsum("bk,koihw->boihw", shares, self.weight.unflatten(0, (self.kernels, -1)))
        # One group of channels for each sample: a single convolution does them all.
        batch, channels, height, width = x.shape
        grouped = x.reshape(1, batch * channels, height, width)
        y = F.conv2d(grouped, weight.flatten(0, 1), None, self.stride, self.padding, groups=batch)
        y = y.reshape(batch, -1, *y.shape[2:])
        if self.bias is None:
            return y
        bias: torch.Tensor = shares @ self.bias.unflatten(0, (self.kernels, -1))
        return y + bias[:, :, None, None]


class DynamicSEResNet(ResNet):
    """A residual net that mixes its kernels anew for each image, by squeeze-and-excitation (Chen et al. 2020).

    It stands for the dynamic form of squeeze-and-excitation: where SE-ResNet's gate scales the channels that one fixed
    kernel made, here the same squeeze (the mean over positions) and excitation (two dense layers) weigh ``kernels``
    kernels, by a softmax in place of the sigmoid. Every convolution but the first, the stem's, is of this kind; all
    else is that of :class:`trainoff.modules.nets.resnet.ResNet`.

    Parameters at depth 18 for (3, 224, 224), 1000 classes and four kernels: 45,472,052.

    Args:
        input_shape: (channels, height, width).
        output_size: Number of outputs.
        depth: 10, 14, 18, 26, 34, 50, 101 or 152.
        width: Channels of the first stage (a quarter of them with bottlenecks).
        kernels: The paper's K, from 2.
        temperature: The paper's τ, above 0: of the softmax. The paper lowers it from 30 to 1 in the first ten epochs;
            here it stays.
        stem: ``imagenet`` or ``small``.
        activation: See :data:`trainoff.modules.nets.layers.ACTIVATIONS`; the attention keeps the paper's ReLU.
        norm: See :func:`trainoff.modules.nets.layers.norm_layer`.
        dropout: Share of the dense layer's inputs that is zeroed in training, in [0, 1).
        drop_path: Share of samples for which the last block's branch is left out in training, in [0, 1).

    Raises:
        UserError: As :class:`trainoff.modules.nets.resnet.ResNet`, and for fewer than two kernels or a temperature
            that is not above 0.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_size: int,
        depth: int = 18,
        width: int = 64,
        kernels: int = 4,
        temperature: float = 30.0,
        stem: str = "imagenet",
        activation: str = "relu",
        norm: Norm = "batch",
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        check_widths("kernels", [kernels])
        if kernels < 2:
            raise UserError("a mixture needs at least 2 kernels; se_resnet50 and resnet18 have one", "kernels")
        if temperature <= 0:
            raise UserError(f"a temperature is above 0, not {temperature}", "temperature")
        super().__init__(input_shape, output_size, depth, width, stem, activation, norm, dropout, drop_path)
        for part in [part for block in self.residual_blocks() for part in (block.branch, block.shortcut)]:
            for place, layer in enumerate(part):
                if isinstance(layer, nn.Conv2d):
                    part[place] = _dynamic(layer, kernels, temperature)


def _dynamic(layer: nn.Conv2d, kernels: int, temperature: float) -> DynamicConv2d:
    """A dynamic convolution of the same shape, each of its kernels drawn as the layer's was."""
    made = DynamicConv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size[0],
        layer.stride[0],
        layer.bias is not None,
        kernels,
        temperature,
    )
    nn.init.kaiming_normal_(made.weight, mode="fan_in", nonlinearity="relu")
    return made
