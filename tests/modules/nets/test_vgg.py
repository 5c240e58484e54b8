"""VGG, against torchvision's numbers and a naive computation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from net_measures import count, losses_of_training, samples
from torch import nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.nets import VGG


@pytest.mark.parametrize(
    ("depth", "published", "published_with_batch_norm", "convolutions_channels"),
    [
        (11, 132_863_336, 132_868_840, 2752),
        (13, 133_047_848, 133_053_736, 2944),
        (16, 138_357_544, 138_365_992, 4224),
        (19, 143_667_240, 143_678_248, 5504),
    ],
)
def test_parameters_are_as_many_as_torchvisions(
    depth: int, published: int, published_with_batch_norm: int, convolutions_channels: int
) -> None:
    """torchvision's convolutions keep their biases, one for each channel, before batch norm."""
    with torch.device("meta"):
        net = VGG((3, 224, 224), 1000, depth=depth)
        assert count(net) == published
        assert sum(isinstance(layer, (nn.Conv2d, nn.Linear)) for layer in net.modules()) == depth
        with_norm = count(VGG((3, 224, 224), 1000, depth=depth, norm="batch"))
    assert with_norm + convolutions_channels == published_with_batch_norm


@pytest.mark.parametrize(("depth", "small"), [(11, 9_228_362), (13, 9_413_066), (16, 14_724_042), (19, 20_035_018)])
def test_the_small_head_leaves_out_the_dense_layers(depth: int, small: int) -> None:
    with torch.device("meta"):
        large = VGG((3, 32, 32), 10, depth=depth, norm="batch")
        dense = 25_088 * 4096 + 4096 + 4096**2 + 4096 + 40_960 + 10
        assert count(VGG((3, 32, 32), 10, depth=depth, norm="batch", head="small")) == small
    assert count(large) - dense + 5130 == small


@pytest.mark.parametrize(("depth", "head", "side"), [(11, "imagenet", 224), (13, "small", 32), (11, "small", 28)])
def test_outputs_are_those_of_a_naive_computation(depth: int, head: str, side: int) -> None:
    """Sides 224 and 32 are halved evenly; at 28 a row of what never is the maximum makes 7 an 8."""
    net = VGG((3, side, side), 10, depth=depth, width=2, dense=5, head=head).eval()
    for parameter in net.parameters():  # biases too
        nn.init.normal_(parameter, std=0.3)
    weights, biases = list(net.parameters())[::2], list(net.parameters())[1::2]
    layer = 0
    x = maps = samples((3, side, side), 2)
    for stage in {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2)}[depth]:
        for _ in range(stage):
            maps = F.relu(F.conv2d(maps, weights[layer], biases[layer], padding=1))
            layer += 1
        odd = maps.shape[-1] % 2 if maps.shape[-1] > 1 else 1
        maps = F.pad(maps, (0, odd, 0, odd), value=-math.inf).unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5))
    expected = maps.flatten(1)  # 7 x 7 from 224, one position from 32 and 28
    for weight, bias in zip(weights[layer:-1], biases[layer:-1], strict=True):
        expected = F.relu(expected @ weight.T + bias)
    torch.testing.assert_close(net(x), expected @ weights[-1].T + biases[-1], rtol=1e-4, atol=1e-4)


def test_dropout_is_the_papers() -> None:
    net = VGG((3, 32, 32), 10, depth=11, width=1, dense=2)
    assert [layer.p for layer in net.head if isinstance(layer, nn.Dropout)] == [0.5, 0.5]


def test_it_starts_as_torchvisions() -> None:
    torch.manual_seed(0)
    net: Any = VGG((3, 32, 32), 1000, dense=64)
    assert all((parameter == 0).all() for name, parameter in net.named_parameters() if name.endswith("bias"))
    weight = net.convolutions[3][0].weight
    assert tuple(weight.shape) == (128, 64, 3, 3)
    assert weight.var().item() == pytest.approx(2 / (9 * 128), rel=0.02)
    assert net.head[-1].weight.std().item() == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize("norm", [None, "batch"])
@pytest.mark.parametrize("head", ["imagenet", "small"])
def test_it_trains(norm: str | None, head: str) -> None:
    torch.manual_seed(0)
    net = VGG((3, 16, 16), 10, depth=11, width=8, dense=64, head=head, norm=norm, dropout=0)
    losses = losses_of_training(net, (3, 16, 16))
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("head", ["imagenet", "small"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 9)])
def test_images_of_any_size_pass(head: str, shape: tuple[int, ...]) -> None:
    assert VGG(shape, 10, depth=11, width=1, dense=2, head=head)(samples(shape)).shape == (4, 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 12}, "depth: the depth is one of 11, 13, 16, 19, not 12"),
        ({"head": "tiny"}, "head: 'tiny' is none of imagenet, small"),
        ({"dense": 0}, "dense"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        VGG((3, 32, 32), 10, **arguments)
