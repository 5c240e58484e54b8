"""The wide residual nets, against the paper's numbers and a naive computation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from net_measures import count, losses_of_training, samples
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.initialisation_functions import zero_residual
from trainoff.modules.nets import WideResNet


@pytest.mark.parametrize(
    ("depth", "widening", "millions"),
    [
        (40, 1, 0.6),
        (40, 2, 2.2),
        (40, 4, 8.9),
        (40, 8, 35.7),
        (28, 10, 36.5),
        (28, 12, 52.5),
        (22, 8, 17.2),
        (16, 8, 11.0),
    ],
)
def test_parameters_agree_with_tables_3_and_4_of_the_paper(depth: int, widening: int, millions: float) -> None:
    with torch.device("meta"):
        net = WideResNet((3, 32, 32), 10, depth=depth, widening=widening)
    assert count(net) / 1e6 == pytest.approx(millions, abs=0.06)
    assert (depth, widening) != (28, 10) or count(net) == 36_479_194


@pytest.mark.parametrize(("depth", "widening"), [(10, 1), (16, 2)])
def test_parameters_are_those_of_the_formula(depth: int, widening: int) -> None:
    n = (depth - 4) // 6
    expected, inputs = 3 * 9 * 16, 16
    for channels in (16 * widening, 32 * widening, 64 * widening):
        expected += 9 * channels * (inputs + (2 * n - 1) * channels) + 2 * (inputs + (2 * n - 1) * channels)
        expected += inputs * channels if inputs != channels else 0
        inputs = channels
    expected += 2 * inputs + 10 * inputs + 10
    assert count(WideResNet((3, 32, 32), 10, depth=depth, widening=widening)) == expected


def test_a_net_is_the_naive_computation() -> None:
    torch.manual_seed(0)
    net: Any = WideResNet((3, 16, 16), 10, depth=16, widening=2, width=4, norm=None)
    x = samples((3, 16, 16))
    features = F.conv2d(x, net.stem.weight, net.stem.bias, padding=1)
    for number, block in enumerate(net.blocks):
        stride = 2 if number in (2, 4) else 1
        activated = F.relu(features)
        residual = F.relu(F.conv2d(activated, block.convolution1.weight, block.convolution1.bias, stride, 1))
        residual = F.conv2d(residual, block.convolution2.weight, block.convolution2.bias, 1, 1)
        if block.shortcut is not None:
            features = F.conv2d(activated, block.shortcut.weight, block.shortcut.bias, stride)
        features = features + residual
    torch.testing.assert_close(net(x), net.output(F.relu(features).mean((2, 3))), rtol=1e-4, atol=1e-5)


def test_dropout_lies_between_the_convolutions_of_each_block() -> None:
    net: Any = WideResNet((3, 16, 16), 10, depth=16, widening=1, dropout=0.3)
    assert [block.dropout.p for block in net.blocks] == [0.3] * 6


def test_with_zero_residuals_a_net_starts_as_its_shortcuts() -> None:
    torch.manual_seed(0)
    net: Any = WideResNet((3, 16, 16), 10, depth=10, widening=2, width=4).eval()
    zero_residual(net)
    x = samples((3, 16, 16))
    features = net.stem(x)
    for block in net.blocks:
        features = block.shortcut(F.relu(block.norm1(features)))
    torch.testing.assert_close(net(x), net.output(F.relu(net.norm(features)).mean((2, 3))), rtol=1e-4, atol=1e-5)


def test_a_tiny_net_learns_by_heart() -> None:
    torch.manual_seed(0)
    losses = losses_of_training(WideResNet((1, 16, 16), 10, depth=10, widening=2, width=4), (1, 16, 16), steps=25)
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize(
    ("arguments", "message"), [({"depth": 27}, r"6n \+ 4"), ({"widening": 0}, "widening"), ({"width": 0}, "width")]
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        WideResNet((3, 32, 32), 10, **arguments)
