"""One affine layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn


class Linear(nn.Module):
    """An affine map of the flattened input: y = Wx + b.

    With cross-entropy it is logistic regression, with squared error linear regression: convex, so that the distance
    to the optimum can be known. It has no hidden activations, hence no place for dropout.

    Parameters: inputs · outputs + outputs; 7,850 for images of (1, 28, 28) and ten classes.

    Args:
        input_shape: Of one sample, any.
        output_size: Number of outputs.
    """

    def __init__(self, input_shape: Sequence[int], output_size: int) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.output = nn.Linear(math.prod(input_shape), output_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (batch, *input_shape) to (batch, output_size)."""
        return self.output(self.flatten(x))  # type: ignore[no-any-return]
