"""AlexNet, against torchvision's numbers and a naive computation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from net_measures import count, follow, losses_of_training, samples
from torch import nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.nets import AlexNet


def test_parameters_are_as_many_as_torchvisions() -> None:
    with torch.device("meta"):
        assert count(AlexNet((3, 224, 224), 1000)) == 61_100_840


@pytest.mark.parametrize(
    ("stem", "side", "sizes"),
    [
        ("imagenet", 224, [(64, 27, 27), (192, 27, 27), (192, 13, 13), (384, 13, 13), (256, 13, 13), (256, 13, 13)]),
        ("small", 32, [(64, 32, 32), (192, 32, 32), (192, 15, 15), (384, 15, 15), (256, 15, 15), (256, 15, 15)]),
    ],
)
def test_maps_have_the_sizes_of_the_table(stem: str, side: int, sizes: list[tuple[int, ...]]) -> None:
    with torch.device("meta"):
        net = AlexNet((3, side, side), 10, stem=stem)
        shapes = follow(net.convolutions, torch.empty(1, 3, side, side))
    last = (256, 6, 6) if stem == "imagenet" else (256, 7, 7)
    assert shapes == [*sizes, last, (256, 6, 6), (256 * 36,)]


def pool(x: torch.Tensor) -> torch.Tensor:
    """Max over 3 x 3, every second position."""
    return x.unfold(2, 3, 2).unfold(3, 3, 2).amax((4, 5))


@pytest.mark.parametrize(("stem", "side"), [("imagenet", 224), ("small", 28)])
def test_outputs_are_those_of_a_naive_computation(stem: str, side: int) -> None:
    """At these sides the maps end as 6 x 6, so that the mean over parts changes nothing."""
    net = AlexNet((3, side, side), 10, width=2, dense=5, stem=stem).eval()
    w1, b1, w2, b2, w3, b3, w4, b4, w5, b5, w6, b6, w7, b7, w8, b8 = net.parameters()
    x = samples((3, side, side), 2)
    if stem == "imagenet":
        maps = pool(F.relu(F.conv2d(x, w1, b1, stride=4, padding=2)))
    else:
        maps = F.relu(F.conv2d(x, w1, b1, padding=1))
    maps = pool(F.relu(F.conv2d(maps, w2, b2, padding=2)))
    maps = F.relu(F.conv2d(maps, w3, b3, padding=1))
    maps = F.relu(F.conv2d(maps, w4, b4, padding=1))
    maps = pool(F.relu(F.conv2d(maps, w5, b5, padding=1)))
    assert maps.shape[2:] == (6, 6)
    hidden = F.relu(maps.flatten(1) @ w6.T + b6)
    expected = F.relu(hidden @ w7.T + b7) @ w8.T + b8
    torch.testing.assert_close(net(x), expected)


def test_dropout_is_the_papers_before_each_hidden_layer() -> None:
    net = AlexNet((3, 32, 32), 10, width=1, dense=2, stem="small")
    layers = list(net.dense)
    places = [number for number, layer in enumerate(layers) if isinstance(layer, nn.Dropout) and layer.p == 0.5]
    assert [type(layers[place + 1]) for place in places] == [nn.Linear, nn.Linear]
    assert len(places) == 2


@pytest.mark.parametrize("norm", [None, "batch"])
def test_it_trains(norm: str | None) -> None:
    torch.manual_seed(0)
    net = AlexNet((3, 16, 16), 10, width=4, dense=32, stem="small", norm=norm, dropout=0)
    losses = losses_of_training(net, (3, 16, 16))
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    ("stem", "smallest", "message"),
    [
        ("imagenet", 63, "from 63 x 63, not 62 x 62; stem: small takes them from 7 x 7$"),
        ("small", 7, "from 7 x 7, not 6 x 6$"),
    ],
)
def test_the_smallest_image_is_what_the_poolings_take(stem: str, smallest: int, message: str) -> None:
    arguments: dict[str, Any] = {"width": 1, "dense": 2, "stem": stem}
    net = AlexNet((1, smallest, smallest), 10, **arguments)
    assert net(samples((1, smallest, smallest))).shape == (4, 10)
    with pytest.raises(RuntimeError, match="too small"):
        net(samples((1, smallest - 1, smallest - 1)))
    with pytest.raises(UserError, match=message):
        AlexNet((1, smallest - 1, smallest - 1), 10, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"stem": "smal"}, "stem: 'smal' is none of imagenet, small; did you mean small"), ({"width": 0}, "width")],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        AlexNet((3, 224, 224), 10, **arguments)
