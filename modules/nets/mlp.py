"""The multi-layer perceptron."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from trainoff.modules.nets.layers import Norm, check_widths, dropout_place, norm_layer
from trainoff.modules.nets.layers import activation as activation_named


class MLP(nn.Module):
    """Fully connected layers on the flattened input (Rumelhart, Hinton & Williams 1986).

    Each hidden layer is affine, norm, activation, dropout; the output layer is affine alone.

    Parameters, without norm: the sum over layers of inputs · outputs + outputs; 118,282 for images of (1, 28, 28) and
    ten classes at the default widths. A norm adds 2 for each hidden unit (``rms`` 1).

    Args:
        input_shape: Of one sample, any.
        output_size: Number of outputs.
        hidden: Widths of the hidden layers; none makes a linear net.
        activation: See :data:`trainoff.modules.nets.layers.ACTIVATIONS`.
        norm: None, ``batch``, ``ghost_batch``, ``layer``, ``group`` or ``rms``; see
            :func:`trainoff.modules.nets.layers.norm_layer`.
        dropout: Share of hidden activations that are zeroed in training, in [0, 1).

    Raises:
        UserError: For an unknown activation or norm, or a width or share that makes no sense.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_size: int,
        hidden: Sequence[int] = (128, 128),
        activation: str = "relu",
        norm: Norm = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_widths("hidden", hidden)
        self.flatten = nn.Flatten()
        self.hidden = nn.ModuleList()
        width = math.prod(input_shape)
        for next_width in hidden:
            self.hidden.append(
                nn.Sequential(
                    nn.Linear(width, next_width),
                    norm_layer(norm, next_width, dimensions=1),
                    activation_named(activation),
                    dropout_place(dropout),
                )
            )
            width = next_width
        self.output = nn.Linear(width, output_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (batch, *input_shape) to (batch, output_size)."""
        x = self.flatten(x)
        for layer in self.hidden:
            x = layer(x)
        return self.output(x)  # type: ignore[no-any-return]
