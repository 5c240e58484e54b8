"""Deformable convolutions against Dai et al. 2017 and against plain dilated ones."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from net_losses import losses_of
from torch import nn
from torch.nn import functional as F

from trainoff.modules.nets import AdaptiveDilatedCNN, DilatedCNN
from trainoff.modules.nets.adaptive_dilated_cnn import DeformableConv2d


def constant_offsets(layer: Any, offsets: torch.Tensor) -> None:
    """The same (9, 2) offsets, row and column, at every position."""
    nn.init.zeros_(layer.offsets.weight)
    layer.offsets.bias.data = offsets.flatten().clone()


def grid() -> torch.Tensor:
    return torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=2)))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dilation", [1, 2, 5])
def test_without_offsets_it_is_the_plain_dilated_convolution(dilation: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer = DeformableConv2d(3, 4, dilation, bias)
    x = torch.randn(2, 3, 9, 7)
    expected = F.conv2d(x, layer.weight, layer.bias, padding=dilation, dilation=dilation)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("other", [1, 3, 4])
def test_offsets_along_the_grid_are_another_dilation(other: int) -> None:
    torch.manual_seed(0)
    layer = DeformableConv2d(3, 4, 2, True)
    constant_offsets(layer, (other - 2) * grid())
    x = torch.randn(2, 3, 9, 7)
    expected = F.conv2d(x, layer.weight, layer.bias, padding=other, dilation=other)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_a_dilation_between_two_pixels_is_interpolated() -> None:
    """On an image that is linear in row and column bilinear interpolation is exact."""
    layer = DeformableConv2d(1, 1, 1, False)
    constant_offsets(layer, 0.37 * grid())
    rows, columns = torch.meshgrid(torch.arange(9.0), torch.arange(9.0), indexing="ij")
    made = layer((2 * rows + 3 * columns)[None, None])[0, 0]
    weight = layer.weight[0, 0].flatten()
    for row, column in ((4, 4), (3, 5)):
        places = torch.tensor([row, column]) + 1.37 * grid()
        torch.testing.assert_close(made[row, column], (weight * (places @ torch.tensor([2.0, 3.0]))).sum())


def test_it_is_equations_2_to_4_of_the_paper() -> None:
    """With offsets that depend on the image: y(p) = Σ w x(p + pₙ + Δₙ), x(q) = Σ max(0, 1 − |Δrow|) max(0, ...) x."""
    torch.manual_seed(0)
    layer: Any = DeformableConv2d(2, 3, 2, True)
    nn.init.normal_(layer.offsets.weight, std=0.5)
    nn.init.normal_(layer.offsets.bias)
    x = torch.randn(1, 2, 6, 5)
    offsets = layer.offsets(x)[0].detach().numpy().reshape(9, 2, 6, 5)
    weight, image = layer.weight.detach().numpy().reshape(3, 2, 9), x[0].numpy()

    def at(row: float, column: float) -> np.ndarray:
        total = np.zeros(2)
        for r in {math.floor(row), math.floor(row) + 1} & set(range(6)):
            for c in {math.floor(column), math.floor(column) + 1} & set(range(5)):
                total += max(0, 1 - abs(row - r)) * max(0, 1 - abs(column - c)) * image[:, r, c]
        return total

    expected = np.tile(layer.bias.detach().numpy()[:, None, None].astype(np.float64), (1, 6, 5))
    for row, column in itertools.product(range(6), range(5)):
        for n, (down, across) in enumerate(itertools.product((-1, 0, 1), repeat=2)):
            place = offsets[n, :, row, column] + (row + 2 * down, column + 2 * across)
            expected[:, row, column] += weight[:, :, n] @ at(*place)
    torch.testing.assert_close(layer(x)[0], torch.from_numpy(expected).float(), rtol=1e-4, atol=1e-4)


def test_the_net_starts_as_the_plain_dilated_one() -> None:
    torch.manual_seed(0)
    plain = DilatedCNN((3, 16, 16), 10, width=4)
    torch.manual_seed(0)
    net = AdaptiveDilatedCNN((3, 16, 16), 10, width=4)
    assert sum(isinstance(layer, DeformableConv2d) for layer in net.modules()) == 4
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(net.eval()(x), plain.eval()(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dilations", [[1, 2], [2, 3], [1, 2, 4]])
def test_without_offsets_the_receptive_field_is_that_of_the_dilations(dilations: list[int]) -> None:
    torch.manual_seed(0)
    net: Any = AdaptiveDilatedCNN((1, 31, 31), 3, dilations=dilations, width=2, norm=None)
    for name, parameter in net.named_parameters():
        if "offsets" not in name:
            nn.init.uniform_(parameter, 0.1, 0.2)
    x = torch.rand(1, 1, 31, 31, requires_grad=True)
    net.context(x)[0, :, 15, 15].sum().backward()
    assert x.grad is not None
    # Positions are rounded in float32: a neighbour gets a millionth.
    places = (x.grad[0, 0] > 1e-4 * x.grad.max()).any(1).nonzero().flatten()
    assert places.min() == 15 - sum(dilations)
    assert places.max() == 15 + sum(dilations)


def test_offsets_are_learned() -> None:
    """The target is a convolution of another dilation, which the offsets alone must find."""
    torch.manual_seed(0)
    layer: Any = DeformableConv2d(1, 1, 1, False)
    # Smooth images, along which a gradient leads.
    x = F.avg_pool2d(torch.randn(16, 1, 24, 24), 5, stride=1, padding=2)
    target = F.conv2d(x, layer.weight.detach(), padding=2, dilation=2)
    optimizer = torch.optim.Adam([layer.offsets.bias], lr=0.05)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = F.mse_loss(layer(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]
    torch.testing.assert_close(layer.offsets.bias.view(9, 2)[[0, 2, 6, 8]], grid()[[0, 2, 6, 8]], rtol=0, atol=0.3)


def test_it_trains() -> None:
    torch.manual_seed(0)
    net = AdaptiveDilatedCNN((1, 12, 12), 10, dilations=[1, 2, 4], width=16)
    losses = losses_of(net, torch.randn(16, 1, 12, 12), torch.arange(16) % 10, steps=40)
    assert losses[-1] < 0.7 * losses[0]
