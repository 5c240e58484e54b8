"""Published numbers of parameters, and the linear, MLP, LeNet-5 and 2C2D nets by their formulas."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from net_measures import count
from tiny_nets import SHAPE, batch, build
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.nets import MLP, CifarResNet, DeepObs2c2d, LeNet5, Linear


@pytest.mark.parametrize(
    ("net", "shape", "published"),
    [
        (LeNet5, (1, 32, 32), 61_706),
        (LeNet5, (1, 28, 28), 61_706),
        (DeepObs2c2d, (1, 28, 28), 3_274_634),
        (CifarResNet, (3, 32, 32), 269_722),
        (CifarResNet, (1, 28, 28), 269_434),
        (MLP, (1, 28, 28), 118_282),
        (Linear, (1, 28, 28), 7_850),
    ],
)
def test_parameters_are_as_many_as_published(net: Any, shape: tuple[int, ...], published: int) -> None:
    assert count(net(shape, 10)) == published


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4)])
@pytest.mark.parametrize("hidden", [(), (5,), (6, 7, 8)])
def test_mlp_has_the_parameters_of_its_formula(shape: tuple[int, ...], hidden: tuple[int, ...]) -> None:
    widths = [math.prod(shape), *hidden, 3]
    affine = sum(a * b + b for a, b in itertools.pairwise(widths))
    assert count(MLP(shape, 3, hidden=hidden)) == affine
    assert count(MLP(shape, 3, hidden=hidden, norm="batch")) == affine + 2 * sum(hidden)
    assert count(MLP(shape, 3, hidden=hidden, norm="rms")) == affine + sum(hidden)


# Each net for itself


def test_linear_is_the_affine_map() -> None:
    net = Linear((2, 3), 4)
    x = batch((2, 3))
    torch.testing.assert_close(net(x), x.reshape(4, 6) @ net.output.weight.T + net.output.bias)


def test_mlp_is_its_formula() -> None:
    net = MLP((2, 3), 4, hidden=(5, 6), activation="tanh")
    w1, b1, w2, b2, w3, b3 = net.parameters()
    x = batch((2, 3)).reshape(4, 6)
    expected = torch.tanh(torch.tanh(x @ w1.T + b1) @ w2.T + b2) @ w3.T + b3
    torch.testing.assert_close(net(batch((2, 3))), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden": 128}, "hidden: 128 is not a list"),
        ({"hidden": [0]}, "positive"),
        ({"hidden": [1.5]}, "positive"),
        ({"activation": "rellu"}, "did you mean relu"),
        ({"norm": "bath"}, "did you mean batch"),
        ({"dropout": 1.0}, r"\[0, 1\)"),
    ],
)
def test_mlp_refuses_what_makes_no_sense(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        MLP((4,), 2, **arguments)


def test_lenet5_sees_28_pixels_as_32_with_a_border() -> None:
    small, large = LeNet5((1, 28, 28), 10), LeNet5((1, 32, 32), 10)
    large.load_state_dict(small.state_dict())
    x = batch()
    torch.testing.assert_close(small(x), large(F.pad(x, (2, 2, 2, 2))))


def test_lenet5_takes_12_pixels_and_no_fewer() -> None:
    assert LeNet5((1, 12, 12), 10)(batch((1, 12, 12))).shape == (4, 10)
    with pytest.raises(UserError, match="from 12 x 12"):
        LeNet5((1, 8, 8), 10)


def test_2c2d_starts_as_deepobs_does() -> None:
    torch.manual_seed(0)
    net: Any = DeepObs2c2d(SHAPE, 10)
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0.05).all()
        else:
            assert parameter.abs().max() <= 0.1
    weights = net.dense[1].weight
    # A normal distribution cut at twice its standard deviation keeps 0.8796 of it.
    assert weights.std().item() == pytest.approx(0.8796 * 0.05, rel=0.005)
    assert weights.mean().item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("side", [27, 28, 29, 30])
def test_2c2d_pools_odd_sides_as_tensorflow_does(side: int) -> None:
    net = build("2c2d", (1, side, side)).eval()
    x = batch((1, side, side))
    expected = x
    for convolution in (net.convolutions[0], net.convolutions[3]):
        expected = F.relu(F.conv2d(expected, convolution.weight, convolution.bias, padding=2))
        odd = expected.shape[-1] % 2
        # TensorFlow's "same" adds what is missing at the end, and it never is the maximum.
        expected = F.max_pool2d(F.pad(expected, (0, odd, 0, odd), value=-math.inf), 2)
    torch.testing.assert_close(net.convolutions(x), expected.flatten(1))
    assert net(x).shape == (4, 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"channels": (1,)}, "2 widths"), ({"dense": 0}, "dense"), ({"channels": 3}, "channels")],
)
def test_2c2d_refuses_what_makes_no_sense(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DeepObs2c2d(SHAPE, 10, **arguments)
