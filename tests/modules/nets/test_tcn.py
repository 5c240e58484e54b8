"""The temporal convolutional net against Bai, Kolter & Koltun 2018."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from net_losses import losses_of
from torch import Tensor, nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.initialisation_functions import initialise
from trainoff.modules.nets import TCN
from trainoff.modules.nets.tcn import WeightNormCausalConv1d


def positive(net: TCN) -> TCN:
    """All weights positive, so that nothing cancels and no unit is dead."""
    torch.manual_seed(0)
    for parameter in net.parameters():
        nn.init.uniform_(parameter, 0.1, 0.2)
    return net


@settings(max_examples=20, deadline=None)
@given(depth=st.integers(1, 4), kernel=st.integers(2, 5))
def test_the_receptive_field_is_its_formula(depth: int, kernel: int) -> None:
    field = 1 + 2 * (kernel - 1) * (2**depth - 1)
    net = positive(TCN((field + 9,), 3, width=2, depth=depth, kernel=kernel))
    x = torch.rand(1, field + 9, requires_grad=True)
    net(x).sum().backward()
    assert x.grad is not None
    assert x.grad[0].ne(0).tolist() == [False] * 9 + [True] * field


@pytest.mark.parametrize("norm", ["weight", "batch", "rms", None])
def test_an_output_does_not_change_when_the_future_does(norm: str | None) -> None:
    torch.manual_seed(0)
    net = TCN((2, 40), 3, width=8, depth=3, kernel=3, every_step=True, norm=norm).eval()
    x = torch.randn(2, 2, 40)
    before = net(x)
    for t in (0, 13, 38):
        changed = x.clone()
        changed[:, :, t + 1 :] = torch.randn(2, 2, 39 - t)
        after = net(changed)
        assert torch.equal(after[:, : t + 1], before[:, : t + 1])
        assert not torch.equal(after[:, t + 1], before[:, t + 1])


def test_no_gradient_comes_from_the_future() -> None:
    net = positive(TCN((12,), 1, width=2, depth=2, kernel=3, every_step=True))
    x = torch.rand(1, 12)
    jacobian = torch.autograd.functional.jacobian(lambda series: net(series)[0, :, 0], x)[:, 0]
    # Output t sees inputs t − 12 to t: all that are not later.
    assert torch.equal(jacobian != 0, torch.ones(12, 12).tril().bool())


def test_the_last_step_is_that_of_every_step() -> None:
    torch.manual_seed(0)
    net = TCN((2, 20), 3, width=8, depth=2, kernel=3)
    every = TCN((2, 20), 3, width=8, depth=2, kernel=3, every_step=True)
    every.load_state_dict(net.state_dict())
    x = torch.randn(4, 2, 20)
    assert every(x).shape == (4, 20, 3)
    assert torch.equal(every(x)[:, -1], net(x))


def test_the_net_is_the_naive_one() -> None:
    """Each output as a sum over the kernel, in float64, with torch's weight norm."""
    torch.manual_seed(0)
    net: Any = TCN((2, 15), 3, width=4, depth=2, kernel=3, every_step=True).double()
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 2, 15, dtype=torch.float64)

    def convolution(series: Tensor, layer: Any, dilation: int) -> Tensor:
        weight = torch._weight_norm(layer.weight, layer.length[:, None, None], 0)
        made = layer.bias[None, :, None].repeat(2, 1, 15)
        for t in range(15):
            for k in range(3):
                source = t - (2 - k) * dilation
                if source >= 0:
                    made[:, :, t] = made[:, :, t] + series[:, :, source] @ weight[:, :, k].T
        return made

    expected = x
    for number, block in enumerate(net.blocks):
        residual = F.relu(convolution(expected, block.branch[0], 2**number))
        residual = F.relu(convolution(residual, block.branch[4], 2**number))
        if number == 0:
            expected = F.conv1d(expected, block.shortcut.weight, block.shortcut.bias)
        expected = F.relu(expected + residual)
    expected = expected.transpose(1, 2) @ net.output.weight.T + net.output.bias
    torch.testing.assert_close(net(x), expected)


def test_weight_norm_is_torch_s_at_the_start_and_in_its_gradients() -> None:
    torch.manual_seed(0)
    layer = WeightNormCausalConv1d(3, 4, 2, 2)
    other: Any = nn.utils.parametrizations.weight_norm(nn.Conv1d(3, 4, 2, dilation=2))
    other.parametrizations.weight.original1.data = layer.weight.data.clone()
    other.parametrizations.weight.original0.data = layer.length.data.clone()[:, None, None]
    other.bias.data = layer.bias.data.clone()  # type: ignore[union-attr]
    torch.testing.assert_close(layer.kernel_weight(), layer.weight)
    x = torch.randn(2, 3, 9)
    for made in (layer(x), other(F.pad(x, (2, 0)))):
        made.square().sum().backward()
    assert layer.length.grad is not None
    torch.testing.assert_close(layer(x), other(F.pad(x, (2, 0))))
    torch.testing.assert_close(layer.length.grad, other.parametrizations.weight.original0.grad.flatten())
    torch.testing.assert_close(layer.weight.grad, other.parametrizations.weight.original1.grad)


def test_an_initialisation_draws_lengths_too() -> None:
    """He's variance is that of the weight that is convolved with."""
    net: Any = TCN((64, 30), 3, width=64, depth=1, kernel=5)
    initialise(net, {"name": "kaiming"})
    weight = net.blocks[0].branch[0].kernel_weight()
    assert weight.var().item() == pytest.approx(2 / (64 * 5), rel=0.05)


def test_zero_residual_is_refused() -> None:
    with pytest.raises(UserError, match="no block with a residual_branch"):
        initialise(TCN((8,), 2, width=2, depth=1), {"name": "zero_residual"})


def test_it_pickles_and_copies() -> None:
    net = TCN((8,), 2, width=2, depth=1)
    x = torch.randn(2, 8)
    assert torch.equal(pickle.loads(pickle.dumps(net))(x), net(x))  # noqa: S301
    assert torch.equal(copy.deepcopy(net)(x), net(x))


def test_parameters_are_those_of_the_formula() -> None:
    """Weights, lengths and biases of two convolutions a block; the shortcut of the first; the output."""
    with torch.device("meta"):
        net = TCN((784,), 10)
    block = 2 * (25 * 25 * 7 + 25 + 25)
    first = 1 * 25 * 7 + 25 + 25 + block // 2 + 25 + 25
    assert sum(p.numel() for p in net.parameters()) == first + 7 * block + 25 * 10 + 10


def test_tokens_are_embedded() -> None:
    """A model of token sequences: the successor of each token is learned at every step."""
    torch.manual_seed(0)
    net = TCN((24,), 7, width=8, depth=2, kernel=2, tokens=True, every_step=True)
    tokens = torch.randint(7, (8, 24))
    assert net(tokens).shape == (8, 24, 7)
    losses = losses_of(net, tokens, (tokens + 1) % 7, steps=40)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("shape", [(32,), (3, 32)])
@pytest.mark.parametrize("norm", ["weight", "batch", "rms", None])
def test_it_trains(shape: tuple[int, ...], norm: str | None) -> None:
    torch.manual_seed(0)
    net = TCN(shape, 10, width=16, depth=3, kernel=3, norm=norm)
    losses = losses_of(net, torch.randn(16, *shape), torch.arange(16) % 10)
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        ((1, 28, 28), {}, "takes series \\(length,\\) or"),
        ((2, 28), {"tokens": True}, "takes series \\(length,\\), not"),
        ((28,), {"kernel": 1}, "kernel: .*no past"),
        ((28,), {"norm": "layer"}, "norm: .*weight, batch or rms"),
        ((28,), {"depth": 0}, "depth"),
    ],
)
def test_it_refuses_what_makes_no_sense(shape: tuple[int, ...], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TCN(shape, 10, **arguments)
