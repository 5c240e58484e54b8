"""DeepOBS's 3c3d, against its definition in DeepOBS and a naive computation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from net_measures import count, losses_of_training, samples
from torch import Tensor
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.nets import DeepObs3c3d
from trainoff.modules.nets.deepobs_3c3d import same_max_pool

TINY = {"channels": [4, 6, 8], "dense": [12, 10]}


@pytest.mark.parametrize(
    ("shape", "classes", "published"),
    [((3, 32, 32), 10, 895_210), ((3, 32, 32), 100, 895_210 + 90 * 257), ((1, 28, 28), 10, 895_210 - 2 * 25 * 64)],
)
def test_parameters_are_as_many_as_published(shape: tuple[int, ...], classes: int, published: int) -> None:
    """28 x 28 ends in 3 x 3 as 32 x 32 does."""
    with torch.device("meta"):
        assert count(DeepObs3c3d(shape, classes)) == published


def tensorflows_pool(x: Tensor) -> Tensor:
    """Max pooling over 3 x 3 with stride 2 and padding "same", by TensorFlow's definition and one window at a time."""
    sides = x.shape[2:]
    outputs = [math.ceil(side / 2) for side in sides]
    borders = [max((output - 1) * 2 + 3 - side, 0) for output, side in zip(outputs, sides, strict=True)]
    (top, bottom), (left, right) = ((border // 2, border - border // 2) for border in borders)
    padded = F.pad(x, (left, right, top, bottom), value=-math.inf)
    rows = [
        torch.stack([padded[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].amax((2, 3)) for j in range(outputs[1])], -1)
        for i in range(outputs[0])
    ]
    return torch.stack(rows, -2)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (5, 5), (6, 6), (7, 8), (28, 13)])
def test_pooling_is_tensorflows_same(height: int, width: int) -> None:
    x = samples((2, height, width))
    assert torch.equal(same_max_pool(height, width)(x), tensorflows_pool(x))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 9, 14), (2, 31, 30)])
def test_outputs_are_those_of_a_naive_computation(shape: tuple[int, int, int]) -> None:
    net = DeepObs3c3d(shape, 10, **TINY)  # type: ignore[arg-type]
    w1, b1, w2, b2, w3, b3, w4, b4, w5, b5, w6, b6 = net.parameters()
    x = samples(shape)
    maps = tensorflows_pool(F.relu(F.conv2d(x, w1, b1)))
    maps = tensorflows_pool(F.relu(F.conv2d(maps, w2, b2)))
    maps = tensorflows_pool(F.relu(F.conv2d(maps, w3, b3, padding=1)))
    hidden = F.relu(maps.flatten(1) @ w4.T + b4)
    expected = F.relu(hidden @ w5.T + b5) @ w6.T + b6
    torch.testing.assert_close(net(x), expected)


def test_it_starts_as_deepobs_does() -> None:
    torch.manual_seed(0)
    net: Any = DeepObs3c3d((3, 32, 32), 10)
    assert all((parameter == 0).all() for name, parameter in net.named_parameters() if name.endswith("bias"))
    convolution = net.convolutions[2][0].weight  # Glorot & Bengio 2010: variance 2 / (fan in + fan out)
    assert convolution.var().item() == pytest.approx(2 / (9 * 64 + 9 * 96), rel=0.02)
    assert convolution.abs().max() > 3 * convolution.std()  # normal
    dense = net.dense[1].weight
    limit = math.sqrt(6 / (1152 + 512))
    assert dense.abs().max() <= limit
    assert dense.var().item() == pytest.approx(limit**2 / 3, rel=0.02)  # uniform


@pytest.mark.parametrize("norm", [None, "batch", "group"])
def test_it_trains(norm: str | None) -> None:
    torch.manual_seed(0)
    losses = losses_of_training(DeepObs3c3d((3, 32, 32), 10, norm=norm, **TINY), (3, 32, 32))  # type: ignore[arg-type]
    assert losses[-1] < 0.7 * losses[0]


def test_it_takes_9_pixels_and_no_fewer() -> None:
    assert DeepObs3c3d((1, 9, 9), 10, **TINY)(samples((1, 9, 9))).shape == (4, 10)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"from 9 x 9, not 32 x 8$"):
        DeepObs3c3d((1, 32, 8), 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": [4, 4]}, "channels: 3 widths"),
        ({"dense": 3}, "dense: 3 is not a list"),
        ({"dropout": 1}, "dropout"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DeepObs3c3d((3, 32, 32), 10, **arguments)
