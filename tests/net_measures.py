"""What the tests of single nets share: counting, samples, a short training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def count(net: nn.Module) -> int:
    """Trainable numbers."""
    return sum(parameter.numel() for parameter in net.parameters())


def samples(shape: tuple[int, ...], number: int = 4) -> Tensor:
    """Standard normal, the same at every call."""
    return torch.randn(number, *shape, generator=torch.Generator().manual_seed(1))


def losses_of_training(net: nn.Module, shape: tuple[int, ...], steps: int = 60, lr: float = 0.005) -> list[float]:
    """Cross-entropy before each step of Adam on sixteen samples of random classes, which a net can learn by heart."""
    inputs = samples(shape, 16)
    classes = torch.randint(10, (16,), generator=torch.Generator().manual_seed(2))
    optimizer = torch.optim.Adam(net.parameters(), lr)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(inputs), classes)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def follow(layers: nn.Sequential, x: Tensor) -> list[tuple[int, ...]]:
    """The shape of one sample after each layer."""
    shapes = []
    for layer in layers:
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    return shapes
