"""The DenseNets, against torchvision's numbers, the paper's tables and a naive computation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from net_measures import count, follow, losses_of_training, samples
from torch import Tensor, nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.nets import DenseNet
from trainoff.modules.nets.densenet import DenseBlock, DenseLayer


@pytest.mark.parametrize(
    ("depth", "blocks", "growth", "published"),
    [
        (121, (6, 12, 24, 16), 32, 7_978_856),
        (169, (6, 12, 32, 32), 32, 14_149_480),
        (201, (6, 12, 48, 32), 32, 20_013_928),
        (161, (6, 12, 36, 24), 48, 28_681_000),
    ],
)
def test_parameters_are_as_many_as_torchvisions(
    depth: int, blocks: tuple[int, ...], growth: int, published: int
) -> None:
    with torch.device("meta"):
        net = DenseNet((3, 224, 224), 1000, blocks=blocks, growth=growth)
    assert count(net) == published
    assert sum(isinstance(layer, (nn.Conv2d, nn.Linear)) for layer in net.modules()) == depth


@pytest.mark.parametrize(("depth", "growth", "millions"), [(100, 12, 0.8), (250, 24, 15.3), (190, 40, 25.6)])
def test_nets_for_cifar_agree_with_table_2_of_the_paper(depth: int, growth: int, millions: float) -> None:
    layers = (depth - 4) // 6
    with torch.device("meta"):
        net = DenseNet((3, 32, 32), 10, blocks=[layers] * 3, growth=growth, stem="small")
    assert round(count(net) / 1e6, 1) == millions
    assert growth != 12 or count(net) == 769_162


def test_maps_have_the_sizes_of_the_papers_table() -> None:
    """Table 1, at 224 x 224."""
    with torch.device("meta"):
        net: Any = DenseNet((3, 224, 224), 1000)
        shapes = follow(net.features, torch.empty(1, 3, 224, 224))
    sizes = [shape for layer, shape in zip(net.features, shapes, strict=True) if isinstance(layer, DenseBlock)]
    assert sizes == [(256, 56, 56), (512, 28, 28), (1024, 14, 14), (1024, 7, 7)]
    pooled = [shape for layer, shape in zip(net.features, shapes, strict=True) if isinstance(layer, nn.AvgPool2d)]
    assert pooled == [(128, 28, 28), (256, 14, 14), (512, 7, 7)]


def normalised(x: Tensor, norm: Any) -> Tensor:
    """Batch norm in training mode, then ReLU."""
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
    scale, shift = (p.reshape(1, -1, 1, 1) for p in (norm.weight, norm.bias))
    return F.relu((x - mean) / (variance + norm.eps).sqrt() * scale + shift)


def with_random_norms(net: nn.Module) -> Any:
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    return net


def naive_layer(x: Tensor, layer: Any) -> Tensor:
    norm1, _, convolution1, norm2, _, convolution2, _ = layer
    bottleneck = F.conv2d(normalised(x, norm1), convolution1.weight)
    return F.conv2d(normalised(bottleneck, norm2), convolution2.weight, padding=1)


def test_a_block_concatenates_all_that_came_before() -> None:
    torch.manual_seed(0)
    block = with_random_norms(DenseBlock([DenseLayer(3 + 2 * n, 2, 4, "relu", "batch", 0.0) for n in range(3)]))
    x0 = samples((3, 5, 6))
    x1 = naive_layer(x0, block.layers[0])
    x2 = naive_layer(torch.cat([x0, x1], 1), block.layers[1])
    x3 = naive_layer(torch.cat([x0, x1, x2], 1), block.layers[2])
    torch.testing.assert_close(block(x0), torch.cat([x0, x1, x2, x3], 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [8, 7])
def test_a_transition_halves_channels_and_sides(side: int) -> None:
    torch.manual_seed(0)
    net = with_random_norms(DenseNet((2, side, side), 10, blocks=[1, 1], growth=3, stem="small"))
    stem, block, norm, _, convolution, _, *_ = net.features
    x = block(F.conv2d(samples((2, side, side)), stem.weight, padding=1))
    maps = F.conv2d(normalised(x, norm), convolution.weight)
    assert maps.shape[1] == x.shape[1] // 2 == 4
    means = [  # the last row and column of an odd side have fewer values
        [maps[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((2, 3)) for j in range((side + 1) // 2)]
        for i in range((side + 1) // 2)
    ]
    expected = torch.stack([torch.stack(row, -1) for row in means], -2)
    torch.testing.assert_close(net.features[:6](samples((2, side, side))), expected, rtol=1e-4, atol=1e-5)


def test_dropout_acts_after_each_convolution_of_a_block() -> None:
    net = DenseNet((1, 28, 28), 10, blocks=[2, 3], growth=2, dropout=0.2)
    layers = [layer for layer in net.modules() if isinstance(layer, DenseLayer)]
    assert [layer[-1].p for layer in layers] == [0.2] * 5
    assert sum(isinstance(layer, nn.Dropout) for layer in net.modules()) == 5


def test_it_starts_as_the_paper_says() -> None:
    torch.manual_seed(0)
    net: Any = DenseNet((3, 32, 32), 10)
    weight = net.features[-3].layers[0][5].weight
    assert tuple(weight.shape) == (32, 128, 3, 3)
    assert weight.var().item() == pytest.approx(2 / (9 * 128), rel=0.02)
    assert (net.output.bias == 0).all()


@pytest.mark.parametrize(("stem", "norm"), [("imagenet", "batch"), ("small", "batch"), ("small", None)])
def test_it_trains(stem: str, norm: str | None) -> None:
    torch.manual_seed(0)
    net = DenseNet((3, 16, 16), 10, blocks=[2, 2], growth=8, stem=stem, norm=norm)
    losses = losses_of_training(net, (3, 16, 16))
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("stem", ["imagenet", "small"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 9)])
def test_images_of_any_size_pass(stem: str, shape: tuple[int, ...]) -> None:
    assert DenseNet(shape, 10, blocks=[1, 1, 1, 1], growth=2, stem=stem)(samples(shape)).shape == (4, 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"blocks": []}, "blocks: a DenseNet has at least one block"),
        ({"blocks": 121}, "blocks: 121 is not a list"),
        ({"growth": 0}, "growth"),
        ({"bottleneck": 0}, "bottleneck"),
        ({"stem": "cifar"}, "stem: 'cifar' is none of imagenet, small"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DenseNet((3, 32, 32), 10, **arguments)
