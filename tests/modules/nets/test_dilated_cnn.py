"""Dilated convolutions against Yu & Koltun 2016."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from net_losses import losses_of
from torch import nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.nets import DilatedCNN


def seen(net: nn.Module, side: int, threshold: float = 0.0) -> torch.Tensor:
    """Rows of pixels that the middle of the last map depends on; all weights are made positive."""
    torch.manual_seed(0)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d) and layer.out_channels != 18:  # offsets keep their zeros
            nn.init.uniform_(layer.weight, 0.1, 0.2)
    x = torch.rand(1, 1, side, side, requires_grad=True)
    context: Any = net.context
    context(x)[0, :, side // 2, side // 2].sum().backward()
    assert x.grad is not None
    return x.grad[0, 0].abs() > threshold * x.grad.abs().max()


@settings(max_examples=15, deadline=None)
@given(dilations=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_the_receptive_field_is_its_formula(dilations: list[int]) -> None:
    field = 1 + 2 * sum(dilations)
    rows = seen(DilatedCNN((1, 41, 41), 3, dilations=dilations, width=2, norm=None), 41).any(1)
    assert rows.nonzero().min() == 20 - sum(dilations)
    assert rows.nonzero().max() == 20 + sum(dilations)
    assert field == rows.nonzero().max() - rows.nonzero().min() + 1


def test_the_receptive_fields_are_those_of_table_1_of_the_paper() -> None:
    """After each of its seven dilated layers; without holes, since every dilation is reached by those before."""
    dilations = (1, 1, 2, 4, 8, 16, 1)
    for layers, field in enumerate([3, 5, 9, 17, 33, 65, 67], 1):
        map_ = seen(DilatedCNN((1, 71, 71), 3, dilations=dilations[:layers], width=1, norm=None), 71)
        assert map_.sum() == field**2, layers
        assert map_.any(1).sum() == map_.any(0).sum() == field


def test_the_net_is_the_naive_one() -> None:
    torch.manual_seed(0)
    net: Any = DilatedCNN((3, 9, 8), 5, dilations=[1, 2], width=4, norm=None)
    x = torch.randn(2, 3, 9, 8)
    expected = x
    for layer, dilation in ((net.context[0], 1), (net.context[3], 2)):
        padded = F.pad(expected, (dilation,) * 4)
        made = layer.bias[None, :, None, None].repeat(2, 1, 9, 8)
        for row in range(3):
            for column in range(3):
                part = padded[:, :, row * dilation : row * dilation + 9, column * dilation : column * dilation + 8]
                made = made + torch.einsum("bihw,oi->bohw", part, layer.weight[:, :, row, column])
        expected = F.relu(made)
    last = net.context[-1]
    expected = torch.einsum("bihw,oi->bohw", expected, last.weight[:, :, 0, 0]) + last.bias[:, None, None]
    expected = expected.mean((2, 3)) @ net.output.weight.T + net.output.bias
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)


def test_parameters_are_those_of_the_formula() -> None:
    with torch.device("meta"):
        net = DilatedCNN((3, 32, 32), 10)
    expected = 27 * 32 + 6 * 9 * 32**2 + 7 * 2 * 32 + 32**2 + 32 + 32 * 10 + 10
    assert sum(p.numel() for p in net.parameters()) == expected


@pytest.mark.parametrize("norm", ["batch", None, "group"])
def test_it_trains(norm: str | None) -> None:
    torch.manual_seed(0)
    net = DilatedCNN((1, 12, 12), 10, dilations=[1, 2, 4], width=16, norm=norm)
    losses = losses_of(net, torch.randn(16, 1, 12, 12), torch.arange(16) % 10, steps=40)
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("dilations", [3, [0], [1.5]])
def test_it_refuses_other_dilations(dilations: Any) -> None:
    with pytest.raises(UserError, match="dilations"):
        DilatedCNN((1, 8, 8), 10, dilations=dilations)
