"""Dynamic convolutions against Chen et al. 2020."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from net_losses import losses_of
from torch import nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.initialisation_functions import initialise
from trainoff.modules.nets import DynamicSEResNet, ResNet
from trainoff.modules.nets.dynamic_se_resnet import DynamicConv2d


def test_parameters_are_those_of_the_paper_s_formula() -> None:
    """K kernels for each convolution but the stem's, and two dense layers: C → C/4 → K."""
    with torch.device("meta"):
        plain = ResNet((3, 224, 224), 1000, depth=18)
        net = DynamicSEResNet((3, 224, 224), 1000)
    expected = sum(p.numel() for p in plain.parameters())
    for layer in plain.blocks.modules():
        if isinstance(layer, nn.Conv2d):
            inputs = layer.in_channels
            expected += 3 * layer.weight.numel() + inputs * inputs // 4 + inputs // 4 + inputs // 4 * 4 + 4
    assert sum(p.numel() for p in net.parameters()) == expected == 45_472_052


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("side", "stride"), [(3, 1), (3, 2), (1, 2)])
def test_the_convolution_is_the_mixture_of_its_kernels_convolutions(side: int, stride: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer: Any = DynamicConv2d(4, 6, side, stride, bias, kernels=3, temperature=0.5)
    x = torch.randn(5, 4, 7, 8)
    v1, c1, v2, c2 = layer.attention.parameters()
    logits = F.relu(x.mean((2, 3)) @ v1.T + c1) @ v2.T + c2
    shares = (logits / 0.5).exp() / (logits / 0.5).exp().sum(1, keepdim=True)
    assert shares.std(0).max() > 0.001  # the samples differ
    kernels = layer.weight.view(3, 6, 4, side, side)
    expected: Any = 0
    for k in range(3):
        made = F.conv2d(x, kernels[k], layer.bias.view(3, 6)[k] if bias else None, stride, side // 2)
        expected = expected + shares[:, k, None, None, None] * made
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_equal_kernels_are_a_plain_residual_net() -> None:
    plain: Any = ResNet((3, 16, 16), 10, depth=14, width=4, stem="small").eval()
    net: Any = DynamicSEResNet((3, 16, 16), 10, depth=14, width=4, stem="small").eval()
    net.load_state_dict({k: v for k, v in plain.state_dict().items() if v.ndim < 4 or "stem" in k}, strict=False)
    for layer, its in zip(net.blocks.modules(), plain.blocks.modules(), strict=False):
        assert not isinstance(layer, DynamicConv2d) or its is not None
    named = dict(plain.named_modules())
    for name, layer in net.named_modules():
        if isinstance(layer, DynamicConv2d):
            layer.weight.data = named[name].weight.repeat(4, 1, 1, 1).detach()
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(net(x), plain(x), rtol=1e-4, atol=1e-4)


def test_a_high_temperature_weighs_all_kernels_alike() -> None:
    layer = DynamicConv2d(4, 6, 3, 1, False, kernels=4, temperature=1e6)
    torch.testing.assert_close(layer.shares(torch.randn(3, 4, 5, 5)), torch.full((3, 4), 0.25))


@pytest.mark.parametrize("kind", ["batch", None])
def test_zero_residual_starts_as_the_shortcuts_alone(kind: str | None) -> None:
    net: Any = DynamicSEResNet((3, 16, 16), 10, depth=10, width=4, stem="small", norm=kind).eval()
    initialise(net, {"name": "zero_residual"})
    x = torch.randn(2, 3, 16, 16)
    expected = net.stem(x)
    for block in net.blocks:
        expected = F.relu(block.shortcut(expected))
    torch.testing.assert_close(net.blocks(net.stem(x)), expected)


def test_it_trains() -> None:
    torch.manual_seed(0)
    net = DynamicSEResNet((1, 16, 16), 10, depth=10, width=4, stem="small")
    losses = losses_of(net, torch.randn(16, 1, 16, 16), torch.arange(16) % 10)
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    ("arguments", "message"), [({"kernels": 1}, "kernels: .*at least 2"), ({"temperature": 0.0}, "temperature: .*above 0")]
)
def test_it_refuses_what_makes_no_sense(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DynamicSEResNet((3, 32, 32), 10, **arguments)
