"""Squeeze-and-excitation against Hu, Shen & Sun 2018."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from net_losses import losses_of
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.initialisation_functions import initialise
from trainoff.modules.nets import ResNet, SEResNet
from trainoff.modules.nets.se_resnet import SqueezeExcitation


def count(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_parameters_are_as_many_as_published() -> None:
    with torch.device("meta"):
        assert count(SEResNet((3, 224, 224), 1000)) == 28_088_024


@pytest.mark.parametrize("reduction", [4, 16])
def test_the_gates_add_what_equation_5_of_the_paper_says(reduction: int) -> None:
    """Σ over stages of 2 N C² / r, and the biases, which the equation leaves out."""
    stages = [(3, 256), (4, 512), (6, 1024), (3, 2048)]
    weights = sum(2 * blocks * channels**2 // reduction for blocks, channels in stages)
    biases = sum(blocks * (channels + channels // reduction) for blocks, channels in stages)
    with torch.device("meta"):
        added = count(SEResNet((3, 64, 64), 10, reduction=reduction)) - count(ResNet((3, 64, 64), 10, depth=50))
    assert added == weights + biases


def test_the_gate_is_its_formula() -> None:
    torch.manual_seed(0)
    gate: Any = SqueezeExcitation(6, 3)
    x = torch.randn(2, 6, 5, 4)
    first, second = gate.excitation[0], gate.excitation[2]
    w1, b1, w2, b2 = (p.detach().numpy() for p in (first.weight, first.bias, second.weight, second.bias))
    assert w1.shape == (2, 6)
    expected = np.zeros((2, 6, 5, 4), np.float32)
    for sample in range(2):
        squeezed = np.array([x[sample, channel].numpy().mean() for channel in range(6)])
        hidden = np.maximum(w1 @ squeezed + b1, 0)
        for channel, logit in enumerate(w2 @ hidden + b2):
            expected[sample, channel] = x[sample, channel].numpy() / (1 + math.exp(-logit))
    torch.testing.assert_close(gate(x), torch.from_numpy(expected))


@pytest.mark.parametrize("depth", [10, 14])
def test_open_gates_leave_the_residual_net(depth: int) -> None:
    """A logit of 100 is a gate of 1."""
    plain = ResNet((3, 16, 16), 10, depth=depth, width=4, stem="small").eval()
    net: Any = SEResNet((3, 16, 16), 10, depth=depth, width=4, reduction=4, stem="small").eval()
    net.load_state_dict(plain.state_dict(), strict=False)
    for block in net.blocks:
        torch.nn.init.constant_(block.branch[-1].excitation[2].bias, 100.0)
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(net(x), plain(x))


def test_the_gate_scales_the_branch_and_not_the_shortcut() -> None:
    net: Any = SEResNet((3, 16, 16), 10, depth=14, width=4, reduction=4, stem="small").eval()
    for block in net.blocks:  # a logit of −100 is a gate of 0
        torch.nn.init.constant_(block.branch[-1].excitation[2].bias, -100.0)
    x = torch.randn(2, 3, 16, 16)
    expected = net.stem(x)
    for block in net.blocks:
        expected = F.relu(block.shortcut(expected))
    torch.testing.assert_close(net.blocks(net.stem(x)), expected)


@pytest.mark.parametrize("kind", ["batch", None])
def test_zero_residual_starts_as_the_shortcuts_alone(kind: str | None) -> None:
    net: Any = SEResNet((3, 16, 16), 10, depth=14, width=4, reduction=4, stem="small", norm=kind).eval()
    initialise(net, {"name": "zero_residual"})
    x = torch.randn(2, 3, 16, 16)
    expected = net.stem(x)
    for block in net.blocks:
        expected = F.relu(block.shortcut(expected))
    torch.testing.assert_close(net.blocks(net.stem(x)), expected)


def test_it_trains() -> None:
    torch.manual_seed(0)
    net = SEResNet((1, 16, 16), 10, depth=14, width=4, reduction=4, stem="small")
    losses = losses_of(net, torch.randn(16, 1, 16, 16), torch.arange(16) % 10)
    assert losses[-1] < 0.7 * losses[0]


def test_it_refuses_a_reduction_that_makes_no_sense() -> None:
    with pytest.raises(UserError, match="reduction"):
        SEResNet((3, 32, 32), 10, reduction=0)
