"""Batch normalisation over parts of a batch."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainoff.errors import UserError


def parts_of(x: torch.Tensor, size: int) -> tuple[torch.Tensor, ...]:
    """⌊n / size⌋ near-equal parts of n samples, at least one."""
    return x.tensor_split(max(1, len(x) // size))


class _InParts(_BatchNorm):
    """What the two share; evaluation is batch norm's."""

    def __init__(self, features: int, size: int = 32) -> None:
        if not isinstance(size, int) or isinstance(size, bool) or size < 2:
            raise UserError(f"a part has at least 2 samples, a whole number, not {size!r}", "norm.size")
        super().__init__(features)
        self.size = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Each part by its own mean and variance."""
        normalise = super().forward
        if not self.training:
            return normalise(x)
        # One after the other, so that each part updates the running statistics (the paper's algorithm 1).
        return torch.cat([normalise(part) for part in parts_of(x, self.size)])


class GhostBatchNorm1d(_InParts, nn.BatchNorm1d):
    """Batch norm whose statistics in training are those of parts of the batch (Hoffer, Hubara & Soudry 2017).

    A batch of n is split into ⌊n / size⌋ near-equal parts of ``size`` samples or more; evaluation is batch norm's.
    Lightning's ``sync_batchnorm`` replaces any batch norm, this one too.

    Inputs and outputs: (batch, features).

    Args:
        features: Number of features.
        size: Samples of a part, from 2.

    Raises:
        UserError: For a size below 2.
    """


class GhostBatchNorm2d(_InParts, nn.BatchNorm2d):
    """The same for images: (batch, features, height, width).

    Args:
        features: Number of channels.
        size: Samples of a part, from 2.

    Raises:
        UserError: For a size below 2.
    """
