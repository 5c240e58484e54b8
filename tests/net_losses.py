"""A short training of a net, for the tests of single nets."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def losses_of(net: nn.Module, x: Tensor, classes: Tensor, steps: int = 30, lr: float = 0.01) -> list[float]:
    """The cross-entropy before each step of Adam on one batch; classes lie in the last dimension of the outputs."""
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        outputs = net(x)
        loss = F.cross_entropy(outputs.flatten(0, -2), classes.flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
