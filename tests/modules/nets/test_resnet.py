"""The residual nets for ImageNet against He et al. 2016."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from net_losses import losses_of
from torch import Tensor, nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.initialisation_functions import initialise
from trainoff.modules.nets import ResNet, ResNet50
from trainoff.modules.nets.drop_path import DropPath


def norm(x: Tensor, layer: Any) -> Tensor:
    return F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias)


def randomise(net: nn.Module) -> None:
    """Running statistics and scales of batch norms too, which start at zero and one."""
    torch.manual_seed(0)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias)
            assert isinstance(layer.running_mean, Tensor)
            assert isinstance(layer.running_var, Tensor)
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)


@pytest.mark.parametrize(
    ("depth", "published"),
    [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160), (152, 60_192_808)],
)
def test_parameters_are_as_many_as_published(depth: int, published: int) -> None:
    with torch.device("meta"):
        net = ResNet((3, 224, 224), 1000, depth=depth)
        assert sum(p.numel() for p in net.parameters()) == published
        layers = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    shortcuts = 3 if depth < 50 else 4
    assert len(layers) - shortcuts == depth


def test_depth_is_that_of_the_name() -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in ResNet50((3, 224, 224), 1000).parameters()) == 25_557_032
        assert sum(p.numel() for p in ResNet((3, 224, 224), 1000).parameters()) == 11_689_512


@pytest.mark.parametrize(("stem", "sides"), [("imagenet", [16, 8, 4, 2]), ("small", [64, 32, 16, 8])])
def test_stages_have_the_sides_of_table_1(stem: str, sides: list[int]) -> None:
    net = ResNet((3, 64, 64), 10, depth=10, width=2, stem=stem).eval()
    x, found = net.stem(torch.randn(1, 3, 64, 64)), []
    for block in net.blocks:
        x = block(x)
        found.append(x.shape[-1])
    assert found == sides


def test_a_basic_net_is_the_naive_one() -> None:
    net: Any = ResNet((3, 32, 32), 5, depth=10, width=3).eval()
    randomise(net)
    x = torch.randn(2, 3, 32, 32)
    expected = F.relu(norm(F.conv2d(x, net.stem[0].weight, stride=2, padding=3), net.stem[1]))
    expected = F.max_pool2d(expected, 3, stride=2, padding=1)
    for number, block in enumerate(net.blocks):
        stride = 1 if number == 0 else 2
        conv1, norm1, _, conv2, norm2 = block.branch
        residual = F.relu(norm(F.conv2d(expected, conv1.weight, stride=stride, padding=1), norm1))
        residual = norm(F.conv2d(residual, conv2.weight, padding=1), norm2)
        if number > 0:
            expected = norm(F.conv2d(expected, block.shortcut[0].weight, stride=2), block.shortcut[1])
        expected = F.relu(expected + residual)
    expected = F.linear(expected.mean((2, 3)), net.output.weight, net.output.bias)
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-4)


def test_a_bottleneck_is_the_naive_one() -> None:
    net: Any = ResNet((3, 8, 8), 5, depth=14, width=2, stem="small").eval()
    randomise(net)
    block = net.blocks[1]
    x = torch.randn(2, 8, 6, 6)
    conv1, norm1, _, conv2, norm2, _, conv3, norm3 = block.branch
    assert conv2.weight.shape == (4, 4, 3, 3)
    residual = F.relu(norm(F.conv2d(x, conv1.weight), norm1))
    residual = F.relu(norm(F.conv2d(residual, conv2.weight, stride=2, padding=1), norm2))
    residual = norm(F.conv2d(residual, conv3.weight), norm3)
    shortcut = norm(F.conv2d(x, block.shortcut[0].weight, stride=2), block.shortcut[1])
    torch.testing.assert_close(block(x), F.relu(shortcut + residual), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("depth", [18, 26])
@pytest.mark.parametrize("kind", ["batch", "group", None])
def test_zero_residual_starts_as_the_shortcuts_alone(depth: int, kind: str | None) -> None:
    net = ResNet((3, 16, 16), 10, depth=depth, width=4, stem="small", norm=kind).eval()
    initialise(net, {"name": "zero_residual"})
    x = torch.randn(2, 3, 16, 16)
    expected = net.stem(x)
    for block in net.residual_blocks():
        expected = F.relu(block.shortcut(expected))
    torch.testing.assert_close(net.blocks(net.stem(x)), expected)


def test_fixup_starts_at_the_loss_of_a_guess() -> None:
    net = ResNet((3, 16, 16), 10, width=4, norm=None)
    initialise(net, {"name": "fixup"})
    assert not net(torch.randn(2, 3, 16, 16)).any()


def test_drop_path_grows_in_proportion_to_depth() -> None:
    net = ResNet((3, 16, 16), 10, width=4, drop_path=0.8)
    assert [m.p for m in net.modules() if isinstance(m, DropPath)] == pytest.approx([0.1 * n for n in range(1, 9)])


@pytest.mark.parametrize("depth", [10, 14])
@pytest.mark.parametrize("kind", ["batch", None, "group", "rms"])
def test_it_trains(depth: int, kind: str | None) -> None:
    torch.manual_seed(0)
    net = ResNet((1, 16, 16), 10, depth=depth, width=4, stem="small", norm=kind)
    losses = losses_of(net, torch.randn(16, 1, 16, 16), torch.arange(16) % 10)
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"depth": 20}, "depth: .* one of 10, 14, 18"), ({"stem": "big"}, "stem: .*imagenet or small"), ({"width": 0}, "width")],
)
def test_it_refuses_what_makes_no_sense(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ResNet((3, 32, 32), 10, **arguments)
