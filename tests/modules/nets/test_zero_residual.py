"""Residual nets that begin as their shortcuts: every branch gives zero, and learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from trainoff.modules.initialisation_functions import initialise
from trainoff.modules.nets import NETS

NORMS = {
    "resnet20": ["batch", "group", None],
    "resnet18": ["batch", "group", None],
    "resnet50": ["batch", "group", None],
    "se_resnet50": ["batch", "group", None],
    "dynamic_se_resnet": ["batch", "group", None],
    "wideresnet28_10": ["batch", "group", None],
    "vit_tiny": ["layer", "rms", None],
}


def started(name: str, norm: str | None) -> tuple[Any, list[Any]]:
    """The tiny variant and its residual blocks."""
    torch.manual_seed(0)
    net: Any = NETS[name].load()(input_shape=(3, 32, 32), output_size=10, **{**NETS[name].tiny, "norm": norm})
    initialise(net, {"name": "zero_residual"})
    return net, [part for part in net.modules() if hasattr(part, "residual_branch") and hasattr(part, "drop_path")]


@pytest.mark.parametrize(("name", "norm"), [(name, norm) for name, norms in NORMS.items() for norm in norms])
def test_every_branch_is_zero_and_gets_a_gradient(name: str, norm: str | None) -> None:
    net, blocks = started(name, norm)
    branches: list[torch.Tensor] = []
    for block in blocks:
        block.drop_path.register_forward_hook(lambda layer, inputs, output: branches.append(output))
    outputs = net(torch.randn(4, 3, 32, 32))
    assert len(branches) == len(blocks) > 2
    assert not any(branch.any() for branch in branches)
    outputs.square().sum().backward()
    for block in blocks:
        # What is zero must not keep its own gradient at zero, as a zeroed norm before a ReLU would.
        (end,) = [layer for layer in block.residual_branch() if not getattr(layer, "weight", torch.ones(1)).any()]
        assert end.weight.grad.any()


def test_a_norm_within_a_branch_keeps_its_scale() -> None:
    net, blocks = started("wideresnet28_10", "batch")
    for block in blocks:
        assert torch.equal(block.norm2.weight, torch.ones_like(block.norm2.weight))
        assert not block.convolution2.weight.any()
    assert isinstance(net.norm, nn.BatchNorm2d)
    assert net.norm.weight.all()
