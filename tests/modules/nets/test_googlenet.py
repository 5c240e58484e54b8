"""GoogLeNet, against torchvision's numbers, the paper's table and a naive computation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from net_measures import count, follow, losses_of_training, samples
from torch import Tensor, nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.nets import GoogLeNet
from trainoff.modules.nets.googlenet import Inception

# Table 1 of the paper: channels and side of what leaves each row from the second pooling on, at 224 x 224.
TABLE = [256, 480, 480, 512, 512, 512, 528, 832, 832, 832, 1024]
SIDES = [28, 28, 14, 14, 14, 14, 14, 14, 7, 7, 7]


def test_parameters_are_as_many_as_torchvisions() -> None:
    with torch.device("meta"):
        assert count(GoogLeNet((3, 224, 224), 1000)) == 6_624_904


def test_maps_have_the_sizes_of_the_papers_table() -> None:
    with torch.device("meta"):
        net: Any = GoogLeNet((3, 224, 224), 1000)
        image = torch.empty(1, 3, 224, 224)
        assert follow(net.stem, image) == [(64, 112, 112), (64, 56, 56), (64, 56, 56), (192, 56, 56), (192, 28, 28)]
        shapes = follow(net.blocks, net.stem(image))
    assert shapes == [(channels, side, side) for channels, side in zip(TABLE, SIDES, strict=True)]


def test_the_small_stem_keeps_the_size() -> None:
    with torch.device("meta"):
        net: Any = GoogLeNet((3, 32, 32), 10, stem="small")
        shapes = follow(net.blocks, net.stem(torch.empty(1, 3, 32, 32)))
    assert tuple(net.stem[0].weight.shape) == (192, 3, 3, 3)
    sides = [32, 32, 16, 16, 16, 16, 16, 16, 8, 8, 8]
    assert shapes == [(channels, side, side) for channels, side in zip(TABLE, sides, strict=True)]


def normalised(x: Tensor, layers: Any, padding: int = 0) -> Tensor:
    """A convolution without biases, batch norm in training mode, ReLU."""
    convolution, norm, _ = layers
    assert convolution.bias is None
    maps = F.conv2d(x, convolution.weight, padding=padding)
    mean, variance = maps.mean((0, 2, 3), keepdim=True), maps.var((0, 2, 3), unbiased=False, keepdim=True)
    scale, shift = (p.reshape(1, -1, 1, 1) for p in (norm.weight, norm.bias))
    return F.relu((maps - mean) / (variance + norm.eps).sqrt() * scale + shift)


def test_a_block_is_four_branches_side_by_side() -> None:
    torch.manual_seed(0)
    block: Any = Inception(5, [2, 3, 4, 1, 2, 3], "relu", "batch")
    for layer in block.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    x = samples((5, 6, 7))
    pooled = F.pad(x, (1, 1, 1, 1), value=-torch.inf).unfold(2, 3, 1).unfold(3, 3, 1).amax((4, 5))
    expected = [
        normalised(x, block.one),
        normalised(normalised(x, block.three[0]), block.three[1], padding=1),
        normalised(normalised(x, block.five[0]), block.five[1], padding=1),
        normalised(pooled, block.pooled[1]),
    ]
    assert [part.shape[1] for part in expected] == [2, 4, 2, 3]
    torch.testing.assert_close(block(x), torch.cat(expected, 1), rtol=1e-4, atol=1e-5)
    assert block.channels == 11


@pytest.mark.parametrize("width", [1, 8, 48, 64])
def test_width_changes_all_channels_in_proportion(width: int) -> None:
    with torch.device("meta"):
        net: Any = GoogLeNet((3, 32, 32), 10, width=width)
        full: Any = GoogLeNet((3, 32, 32), 10)
    pairs = [
        (ours.out_channels, theirs.out_channels)
        for ours, theirs in zip(net.modules(), full.modules(), strict=True)
        if isinstance(ours, nn.Conv2d)
    ]
    assert len(pairs) == 3 + 9 * 6
    assert all(ours == max(1, theirs * width // 64) for ours, theirs in pairs)


def test_convolutions_start_as_he_et_al_say() -> None:
    torch.manual_seed(0)
    net: Any = GoogLeNet((3, 32, 32), 10)
    weight = net.blocks[0].three[1][0].weight
    assert weight.var().item() == pytest.approx(2 / (9 * 96), rel=0.02)


@pytest.mark.parametrize(("stem", "norm"), [("imagenet", "batch"), ("imagenet", None), ("small", "batch")])
def test_it_trains(stem: str, norm: str | None) -> None:
    torch.manual_seed(0)
    net = GoogLeNet((3, 16, 16), 10, width=4, stem=stem, norm=norm, dropout=0)
    losses = losses_of_training(net, (3, 16, 16))
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    ("stem", "smallest", "message"),
    [
        ("imagenet", 15, "from 15 x 15, not 14 x 14; stem: small takes them from 2 x 2$"),
        ("small", 2, "from 2 x 2, not 1 x 1$"),
    ],
)
def test_the_smallest_image_is_what_the_poolings_take(stem: str, smallest: int, message: str) -> None:
    net = GoogLeNet((1, smallest, smallest), 10, width=1, stem=stem)
    assert net(samples((1, smallest, smallest))).shape == (4, 10)
    with pytest.raises(RuntimeError, match="too small"):
        net(samples((1, smallest - 1, smallest - 1)))
    with pytest.raises(UserError, match=message):
        GoogLeNet((1, smallest - 1, smallest - 1), 10, width=1, stem=stem)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"stem": "large"}, "stem: 'large' is none of imagenet, small"), ({"width": 0}, "width")],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        GoogLeNet((3, 32, 32), 10, **arguments)
