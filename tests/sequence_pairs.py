"""Sources and targets for the tests of the nets that make one sequence of tokens from another."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

VOCABULARY, SOURCE, TARGET = 11, 7, 5
Net = TypeVar("Net", bound=nn.Module)


def enlarged(net: Net, std: float) -> Net:
    """With weights so large that every part counts; in eval mode."""
    for parameter in net.eval().parameters():
        nn.init.normal_(parameter, std=std)
    return net


def tokens(length: int, samples: int = 3, seed: int = 1) -> Tensor:
    return torch.randint(1, VOCABULARY, (samples, length), generator=torch.Generator().manual_seed(seed))


def some_padding() -> Tensor:
    """True from place 3, from place 6, and nowhere."""
    return torch.arange(SOURCE) >= torch.tensor([[3], [6], [SOURCE]])
