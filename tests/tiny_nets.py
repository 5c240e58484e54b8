"""The tiny variant of each net, and what it is called with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainoff.modules.nets import NETS

SHAPE = (1, 28, 28)


def build(name: str, shape: tuple[int, ...] = SHAPE, **arguments: Any) -> Any:
    """The tiny variant, which one core bears; the full sizes are built by the tests of parameter counts."""
    torch.manual_seed(0)
    return NETS[name].load()(input_shape=shape, output_size=10, **{**NETS[name].tiny, **arguments})


def batch(shape: tuple[int, ...] = SHAPE, samples: int = 4) -> Tensor:
    return torch.randn(samples, *shape, generator=torch.Generator().manual_seed(1))


def samples_for(name: str, samples: int = 4) -> tuple[Tensor, ...]:
    """What the tiny variant of a net is called with: numbers, token numbers, or two series of those."""
    generator = torch.Generator().manual_seed(1)
    entry = NETS[name]
    if entry.domain in ("tokens", "token pairs"):
        count = 2 if entry.domain == "token pairs" else 1
        return tuple(torch.randint(3, 10, (samples, *entry.tiny_shape), generator=generator) for _ in range(count))
    return (torch.randn(samples, *entry.tiny_shape, generator=generator),)


def tiny(name: str, **arguments: Any) -> Any:
    return build(name, NETS[name].tiny_shape, **arguments)
