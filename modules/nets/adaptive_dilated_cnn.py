"""Dilated convolutions whose dilation adapts to the image: deformable convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from trainoff.modules.nets.dilated_cnn import DilatedCNN
from trainoff.modules.nets.layers import Norm


class DeformableConv2d(nn.Conv2d):
    """A 3 x 3 convolution that chooses at each position where it looks (Dai et al. 2017, section 2.1).

    y(p) = Σₙ W(pₙ) x(p + d pₙ + Δₙ(p)) + b over the nine pₙ of {−1, 0, 1}²; the offsets Δ, in pixels, are a
    convolution of the same input and dilation. Between pixels x is interpolated bilinearly, outside it is zero. The
    offsets start at zero, as the plain convolution of dilation d; where they are (e − d) pₙ, the dilation is e.
    From (batch, inputs, height, width) to (batch, outputs, height, width).

    Its gradient cannot be differentiated again (torch's ``grid_sample`` has no second derivative).

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.
        dilation: d.
        bias: Whether there is b.
    """

    def __init__(self, inputs: int, outputs: int, dilation: int, bias: bool) -> None:
        super().__init__(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=bias)
        # Row and column of each pₙ in turn, in the order of the kernel's weights.
        self.offsets = nn.Conv2d(inputs, 18, 3, padding=dilation, dilation=dilation)
        nn.init.zeros_(self.offsets.weight)
        nn.init.zeros_(self.offsets.bias)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The convolution of what was sampled."""
        batch, _, height, width = x.shape
        sampled = self._sample(x, self.offsets(x).view(batch, 9, 2, height, width))
        # A product of matrices for each sample: faster than one over the batch, which would copy what was sampled.
        kernel = self.weight.flatten(1).expand(batch, -1, -1)
        y = torch.bmm(kernel, sampled.flatten(1, 2)).view(batch, -1, height, width)
        return y if self.bias is None else y + self.bias[:, None, None]

    def _sample(self, x: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        """What x is at the nine places of each position: (batch, channels, 9, height · width)."""
        batch, _, height, width = x.shape
        # bfloat16 has too few digits for positions.
        whole = torch.arange(max(height, width), device=x.device, dtype=torch.float32)
        steps = self.dilation[0] * (torch.arange(3, device=x.device, dtype=torch.float32) - 1)
        rows = whole[:height, None] + offsets[:, :, 0].float() + steps.repeat_interleave(3)[:, None, None]
        columns = whole[:width] + offsets[:, :, 1].float() + steps.repeat(3)[:, None, None]
        # grid_sample counts from −1 at the outer edge of the first pixel to 1 at that of the last.
        grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], -1)
        sampled = F.grid_sample(x.float(), grid.view(batch, 9, height * width, 2), align_corners=False)
        return sampled.to(x.dtype)


class AdaptiveDilatedCNN(DilatedCNN):
    """A dilated net whose wider convolutions adapt their dilation, at each position, to the image.

    :class:`trainoff.modules.nets.dilated_cnn.DilatedCNN` with deformable convolutions (Dai et al. 2017) in place of
    those whose dilation is above 1. At the start, with all offsets zero, both nets give the same; from there each
    position learns where to look. Dilations that adapt are read here as these offsets, of which another dilation is
    one case.

    Args:
        input_shape: (channels, height, width).
        output_size: Number of outputs.
        dilations: One for each 3 x 3 convolution; those above 1 are where the offsets start.
        width: Channels of every convolution.
        activation: See :data:`trainoff.modules.nets.layers.ACTIVATIONS`.
        norm: See :func:`trainoff.modules.nets.layers.norm_layer`.
        dropout: Share of the dense layer's inputs that is zeroed in training, in [0, 1).

    Raises:
        UserError: As :class:`trainoff.modules.nets.dilated_cnn.DilatedCNN`.
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
        super().__init__(input_shape, output_size, dilations, width, activation, norm, dropout)
        for place, layer in enumerate(self.context):
            if isinstance(layer, nn.Conv2d) and layer.dilation[0] > 1:
                adaptive = DeformableConv2d(
                    layer.in_channels, layer.out_channels, layer.dilation[0], layer.bias is not None
                )
                # What was drawn stays, so that both nets start alike.
                adaptive.load_state_dict(layer.state_dict(), strict=False)
                self.context[place] = adaptive
