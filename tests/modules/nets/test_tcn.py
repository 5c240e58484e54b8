"""The temporal convolutional net: what an output sees, and a naive computation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from net_measures import count, losses_of_training, samples
from torch import Tensor, nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.nets import TCN


def build(**arguments: Any) -> Any:
    torch.manual_seed(0)
    return TCN((2, 40), 3, **{"width": 4, "depth": 3, "kernel": 3, "activation": "tanh", **arguments})


def receptive_field(kernel: int, depth: int) -> int:
    """Bai et al. 2018, section 3.2: two convolutions in each block, with dilations 1, 2, 4, ..."""
    return 1 + 2 * (kernel - 1) * (2**depth - 1)


@pytest.mark.parametrize(("kernel", "depth"), [(2, 1), (2, 3), (3, 2), (5, 2), (3, 4)])
def test_the_receptive_field_measured_from_gradients_is_the_formulas(kernel: int, depth: int) -> None:
    length = receptive_field(kernel, depth) + 20
    # In float64, and along the shortcut-free path: tanh keeps every gradient away from zero.
    net = build(kernel=kernel, depth=depth).double()
    x = samples((2, length), 1).double().requires_grad_()
    net(x).sum().backward()
    seen = x.grad.abs().sum((0, 1)).nonzero().flatten()  # type: ignore[union-attr]
    assert int(seen.max()) == length - 1
    assert length - int(seen.min()) == receptive_field(kernel, depth)


def test_the_defaults_see_as_far_as_the_docstring_says() -> None:
    assert receptive_field(7, 8) == 3061


@pytest.mark.parametrize("norm", ["weight", "rms", None])
@given(step=st.integers(0, 38))
@settings(deadline=None, max_examples=20)
def test_no_output_depends_on_a_later_input(norm: str | None, step: int) -> None:
    net = build(every_step=True, norm=norm).eval()
    x = samples((2, 40))
    changed = x.clone()
    changed[:, :, step + 1 :] += 1
    outputs, others = net(x), net(changed)
    assert torch.equal(outputs[:, : step + 1], others[:, : step + 1])
    assert not torch.equal(outputs[:, step + 1], others[:, step + 1])


def causal(x: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
    """Step by step, channel sums by hand."""
    kernel = weight.shape[2]
    steps = []
    for t in range(x.shape[2]):
        step = bias.expand(len(x), -1)
        for k in range(kernel):
            before = t - (kernel - 1 - k) * dilation
            if before >= 0:
                step = step + x[:, :, before] @ weight[:, :, k].T
        steps.append(step)
    return torch.stack(steps, 2)


@pytest.mark.parametrize("norm", ["weight", None])
def test_a_net_is_the_naive_computation(norm: str | None) -> None:
    net = build(norm=norm, activation="relu")
    if norm == "weight":  # lengths that are not those of the directions
        for parameter in net.parameters():
            nn.init.normal_(parameter)
    x = samples((2, 12))
    features = x
    for number, block in enumerate(net.blocks):
        residual = features
        for layer in (block.branch[0], block.branch[4]):
            weight = layer.weight
            if norm == "weight":
                weight = torch.stack([g * v / v.norm() for g, v in zip(layer.length, weight, strict=True)])
            residual = F.relu(causal(residual, weight, layer.bias, 2**number))
        if features.shape[1] != 4:
            shortcut = block.shortcut
            features = torch.einsum("oi,bit->bot", shortcut.weight[:, :, 0], features) + shortcut.bias[:, None]
        features = F.relu(features + residual)
    expected = features[:, :, -1] @ net.output.weight.T + net.output.bias
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)


def test_weight_norm_starts_as_the_plain_convolution() -> None:
    net, plain = build(norm="weight"), build(norm=None)
    state = {name: tensor for name, tensor in net.state_dict().items() if not name.endswith(".length")}
    plain.load_state_dict(state)
    torch.testing.assert_close(net(samples((2, 40))), plain(samples((2, 40))))


def test_parameters_are_those_of_the_formula() -> None:
    """Of each block two convolutions with a bias and a length a channel; the first has a shortcut."""
    convolutions = 3 * (2 * 4 + 5 * 4 * 4)
    assert count(build()) == convolutions + 6 * (4 + 4) + (2 * 4 + 4) + (4 * 3 + 3)


def test_series_without_channels_have_one() -> None:
    torch.manual_seed(0)
    net = TCN((40,), 3, width=4, depth=2, kernel=3)
    x = samples((40,))
    assert torch.equal(net(x), net(x[:, None]))


def test_tokens_are_embedded() -> None:
    torch.manual_seed(0)
    net: Any = TCN((16,), 9, width=4, depth=2, kernel=3, tokens=True, every_step=True)
    tokens = torch.randint(9, (4, 16), generator=torch.Generator().manual_seed(0))
    steps = net.blocks(net.embedding.weight[tokens].transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(net(tokens), net.output(steps))
    assert net(tokens).shape == (4, 16, 9)
    assert math.isfinite(F.cross_entropy(net(tokens).flatten(0, 1), tokens.flatten()).item())


@pytest.mark.parametrize("norm", ["weight", "batch", "rms", None])
def test_a_tiny_net_learns_by_heart(norm: str | None) -> None:
    torch.manual_seed(0)
    losses = losses_of_training(TCN((30,), 10, width=12, depth=3, kernel=3, norm=norm), (30,), steps=60, lr=0.01)
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        ((1, 8, 8), {}, "tcn takes series"),
        ((2, 8), {"tokens": True}, r"\(length,\)"),
        ((8,), {"kernel": 1}, "sees no past"),
        ((8,), {"norm": "layer"}, "weight, batch or rms"),
    ],
)
def test_what_makes_no_sense_is_refused(shape: tuple[int, ...], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TCN(shape, 3, **arguments)
