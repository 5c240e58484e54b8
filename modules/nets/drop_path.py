"""Stochastic depth: residual branches that are left out at random."""

from __future__ import annotations

import torch
from torch import nn

from trainoff.errors import UserError


class DropPath(nn.Module):
    """Leaves a residual branch out for a share p of the samples in training, at random (Huang et al. 2016).

    What is kept is divided by 1 − p, so that the mean is that of evaluation, where the branch is always there.
    Inputs and outputs: (batch, ...).

    Args:
        p: In [0, 1).
    """

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The branch, zero for the samples that are left out."""
        if not self.training or self.p == 0:
            return x
        kept = x.new_empty(len(x), *[1] * (x.ndim - 1)).bernoulli_(1 - self.p)
        return x * kept / (1 - self.p)

    def extra_repr(self) -> str:
        """The share, in the net's listing."""
        return f"p={self.p:g}"


def share_at_depth(p: float, number: int, count: int) -> float:
    """P · l / L (Huang et al. 2016, eq. 4).

    Args:
        p: Of the last branch.
        number: l, from 1.
        count: L.
    """
    return p * number / count


def set_drop_path(net: nn.Module, p: float) -> int:
    """Set each DropPath of a net to its share: p · l / L for the l-th of L (Huang et al. 2016, eq. 4).

    Args:
        net: Whose layers, in the order in which they are registered.
        p: Of the last one, in [0, 1).

    Returns:
        L.

    Raises:
        UserError: For a share outside [0, 1).
    """
    if not 0 <= p < 1:
        raise UserError(f"the share of samples lies in [0, 1), not {p}", "drop_path")
    layers = [layer for layer in net.modules() if isinstance(layer, DropPath)]
    for number, layer in enumerate(layers, 1):
        layer.p = share_at_depth(p, number, len(layers))
    return len(layers)
