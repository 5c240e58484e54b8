"""The weight norm of the temporal convolutional net against torch's, and what torch's cannot do."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.initialisation_functions import initialise
from trainoff.modules.nets import TCN
from trainoff.modules.nets.tcn import WeightNormCausalConv1d


def test_outputs_and_gradients_are_those_of_torchs_weight_norm() -> None:
    torch.manual_seed(0)
    layer = WeightNormCausalConv1d(3, 4, 2, 2)
    nn.init.normal_(layer.length)  # not the directions' own lengths
    other: Any = nn.utils.parametrizations.weight_norm(nn.Conv1d(3, 4, 2, dilation=2))
    with torch.no_grad():
        other.parametrizations.weight.original0.copy_(layer.length[:, None, None])
        other.parametrizations.weight.original1.copy_(layer.weight)
        other.bias.copy_(layer.bias)
    x = torch.randn(2, 3, 9)
    made, expected = layer(x), other(F.pad(x, (2, 0)))
    torch.testing.assert_close(made, expected)
    for outputs in (made, expected):
        outputs.square().sum().backward()
    assert layer.length.grad is not None
    torch.testing.assert_close(layer.length.grad, other.parametrizations.weight.original0.grad.flatten())
    torch.testing.assert_close(layer.weight.grad, other.parametrizations.weight.original1.grad)


@pytest.mark.parametrize(("name", "variance"), [("kaiming", 2 / (64 * 5)), ("lecun", 1 / (64 * 5))])
def test_an_initialisations_variance_is_that_of_the_weight_that_is_convolved_with(name: str, variance: float) -> None:
    """The lengths follow what was drawn; with those of the weights before, only directions would be drawn."""
    torch.manual_seed(0)
    net: Any = TCN((64, 30), 3, width=64, depth=1, kernel=5)
    nn.init.constant_(net.blocks[0].branch[0].length, 100.0)
    initialise(net, {"name": name})
    assert net.blocks[0].branch[0].kernel_weight().var().item() == pytest.approx(variance, rel=0.05)


def test_it_pickles_and_copies() -> None:
    net = TCN((8,), 2, width=2, depth=1)
    x = torch.randn(2, 8)
    assert torch.equal(pickle.loads(pickle.dumps(net))(x), net(x))
    assert torch.equal(copy.deepcopy(net)(x), net(x))


def test_zero_residual_refuses_branches_that_end_in_an_activation() -> None:
    with pytest.raises(UserError, match="TCN has no block with a residual_branch"):
        initialise(TCN((8,), 2, width=2, depth=1), {"name": "zero_residual"})
