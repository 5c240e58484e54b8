"""ResNets for CIFAR: their size, shortcuts, norms and initial weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from net_measures import count
from tiny_nets import batch, build
from torch import nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.nets import CifarResNet
from trainoff.modules.nets.resnet_cifar import shortcut


@pytest.mark.parametrize("depth", [8, 20, 32, 56])
@pytest.mark.parametrize("width", [4, 16])
def test_resnet_has_the_parameters_of_its_formula(depth: int, width: int) -> None:
    n = (depth - 2) // 6
    stages = [width, 2 * width, 4 * width]
    convolutions = 27 * width
    for before, channels in zip([width, *stages], stages, strict=False):
        convolutions += 9 * (before * channels + (2 * n - 1) * channels**2)
    scales = 2 * (width + 2 * n * sum(stages))
    assert count(CifarResNet((3, 32, 32), 10, depth=depth, width=width)) == (
        convolutions + scales + 10 * 4 * width + 10
    )


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_resnets_agree_with_table_6_of_the_paper(depth: int, millions: float) -> None:
    digits = 1 if depth == 110 else 2
    with torch.device("meta"):
        assert round(count(CifarResNet((3, 32, 32), 10, depth=depth)) / 1e6, digits) == millions


@pytest.mark.parametrize("side", [7, 8])
@pytest.mark.parametrize(("channels", "stride"), [(3, 1), (3, 2), (8, 2)])
def test_option_a_shortcut_is_the_naive_one(side: int, channels: int, stride: int) -> None:
    x = batch((3, side, side), samples=2)
    half = -(-side // stride)
    expected = torch.zeros(2, channels, half, half)
    for row in range(half):
        for column in range(half):
            expected[:, :3, row, column] = x[:, :, stride * row, stride * column]
    assert torch.equal(shortcut(x, channels, stride), expected)


def test_resnet_without_residuals_is_its_stem_and_shortcuts() -> None:
    net: Any = CifarResNet((3, 8, 8), 10, depth=8, width=4).eval()
    for block in net.blocks:
        nn.init.zeros_(block.norm2.weight)
    x = batch((3, 8, 8))
    stem = net.stem(x)
    features = F.pad(stem[:, :, ::4, ::4].mean((2, 3)), (0, 12))
    torch.testing.assert_close(net(x), net.output(features))


@pytest.mark.parametrize("norm", [None, "batch", "layer", "group", "instance", "rms"])
def test_resnet_trains_with_every_norm(norm: str | None) -> None:
    net = build("resnet20", (3, 16, 16), norm=norm)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    x, classes = batch((3, 16, 16), samples=16), torch.arange(16) % 10
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), classes)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_resnet_starts_as_he_et_al_say() -> None:
    torch.manual_seed(0)
    net: Any = CifarResNet((3, 32, 32), 10)
    weight = net.blocks[-1].convolution2.weight
    assert weight.var().item() == pytest.approx(2 / (9 * 64), rel=0.03)


@pytest.mark.parametrize("depth", [2, 18, 21])
def test_resnet_refuses_other_depths(depth: int) -> None:
    with pytest.raises(UserError, match="6n \\+ 2"):
        CifarResNet((3, 32, 32), 10, depth=depth)
