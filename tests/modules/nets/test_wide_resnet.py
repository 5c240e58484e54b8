"""Wide residual nets against Zagoruyko & Komodakis 2016."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from net_losses import losses_of
from torch import Tensor, nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.initialisation_functions import initialise
from trainoff.modules.nets import WideResNet


@pytest.mark.parametrize(
    ("depth", "widening", "millions"),
    [(40, 1, 0.6), (40, 2, 2.2), (40, 4, 8.9), (28, 10, 36.5), (16, 8, 11.0), (22, 8, 17.2), (16, 10, 17.1), (22, 10, 26.8)],
)
def test_parameters_agree_with_tables_2_to_4_of_the_paper(depth: int, widening: int, millions: float) -> None:
    with torch.device("meta"):
        net = WideResNet((3, 32, 32), 10, depth=depth, widening=widening)
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 1) == millions


def test_parameters_of_wrn_28_10_by_its_formula() -> None:
    widths, inputs, expected = [160, 320, 640], 16, 27 * 16
    for width in widths:
        first = 2 * inputs + 9 * inputs * width + 2 * width + 9 * width**2 + inputs * width
        expected += first + 3 * (2 * (2 * width + 9 * width**2))
        inputs = width
    expected += 2 * 640 + 640 * 10 + 10
    with torch.device("meta"):
        assert sum(p.numel() for p in WideResNet((3, 32, 32), 10).parameters()) == expected == 36_479_194


def norm(x: Tensor, layer: Any) -> Tensor:
    return F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias)


def test_the_net_is_the_naive_one() -> None:
    torch.manual_seed(0)
    net: Any = WideResNet((3, 8, 8), 5, depth=16, widening=2, width=2).eval()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.bias)
            nn.init.normal_(layer.running_mean)  # type: ignore[arg-type]
    x = torch.randn(2, 3, 8, 8)
    expected = F.conv2d(x, net.stem.weight, padding=1)
    for number, block in enumerate(net.blocks):
        stride = 2 if number in (2, 4) else 1
        activated = F.relu(norm(expected, block.norm1))
        residual = F.relu(norm(F.conv2d(activated, block.convolution1.weight, stride=stride, padding=1), block.norm2))
        residual = F.conv2d(residual, block.convolution2.weight, padding=1)
        if number % 2 == 0:
            expected = F.conv2d(activated, block.shortcut.weight, stride=stride)
        expected = expected + residual
    expected = F.relu(norm(expected, net.norm)).mean((2, 3)) @ net.output.weight.T + net.output.bias
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["batch", "group", None])
def test_zero_residual_starts_as_the_shortcuts_alone_and_lets_gradients_through(kind: str | None) -> None:
    net: Any = WideResNet((3, 8, 8), 10, depth=16, widening=2, width=2, norm=kind)
    initialise(net, {"name": "zero_residual"})
    net.eval()
    x = torch.randn(3, 3, 8, 8)
    expected = net.stem(x)
    for block in net.blocks:
        if block.shortcut is not None:
            expected = block.shortcut(F.relu(block.norm1(expected)))
    torch.testing.assert_close(net.blocks(net.stem(x)), expected)
    net(x).square().sum().backward()
    assert all(block.convolution2.weight.grad.abs().sum() > 0 for block in net.blocks)


def test_dropout_lies_between_the_convolutions_of_each_block() -> None:
    net: Any = WideResNet((3, 8, 8), 10, depth=10, widening=1, width=2, dropout=0.3)
    assert [name for name, layer in net.named_modules() if isinstance(layer, nn.Dropout) and layer.p == 0.3] == [
        f"blocks.{number}.dropout" for number in range(3)
    ]
    seen = []
    net.blocks[0].dropout.register_forward_hook(lambda layer, inputs, output: seen.append((inputs[0], output)))
    net.blocks[0].convolution2.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    net(torch.randn(2, 3, 8, 8))
    (before, after), given = seen
    assert given is after
    torch.testing.assert_close(after[after != 0], before[after != 0] / 0.7)


@pytest.mark.parametrize("kind", ["batch", None, "layer", "rms"])
def test_it_trains(kind: str | None) -> None:
    torch.manual_seed(0)
    net = WideResNet((1, 16, 16), 10, depth=10, widening=2, width=4, norm=kind)
    losses = losses_of(net, torch.randn(16, 1, 16, 16), torch.arange(16) % 10)
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"depth": 20}, "depth: .*6n \\+ 4"), ({"depth": 4}, "6n"), ({"widening": 0}, "widening"), ({"dropout": 1}, "dropout")],
)
def test_it_refuses_what_makes_no_sense(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        WideResNet((3, 32, 32), 10, **arguments)
