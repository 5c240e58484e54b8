"""Attention and what stands beside it, against formulas and torch's own."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from trainoff.errors import UserError
from trainoff.modules.nets.transformer_layers import (
    Attention,
    FeedForward,
    check_tokens,
    token_length,
    token_norm,
    visible_tokens,
)


def numbers(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def attention(width: int = 12, heads: int = 3, **arguments: Any) -> Attention:
    torch.manual_seed(0)
    net = Attention(width, heads, **arguments)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.5)
    return net


def by_hand(net: Attention, x: Tensor, context: Tensor, visible: Tensor) -> Tensor:
    """Head after head, sample after sample; ``visible`` is (batch, length, places)."""
    queries, keys, values = net.query(x), net.key(context), net.value(context)
    d = x.shape[-1] // net.heads
    rows = []
    for sample in range(len(x)):
        heads = []
        for head in range(net.heads):
            part = slice(head * d, (head + 1) * d)
            scores = queries[sample, :, part] @ keys[sample, :, part].T / math.sqrt(d)
            scores[~visible[sample]] = -math.inf
            weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
            heads.append(weights @ values[sample, :, part])
        rows.append(net.output(torch.cat(heads, -1)))
    return torch.stack(rows)


def test_attention_is_its_formula() -> None:
    net = attention()
    x, context = numbers(2, 5, 12), numbers(2, 7, 12, seed=2)
    everything = torch.ones(2, 5, 7, dtype=torch.bool)
    torch.testing.assert_close(net(x, net.keys_values(context)), by_hand(net, x, context, everything))
    some = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(3)) < 0.5
    some[:, :, 0] = True
    torch.testing.assert_close(net(x, net.keys_values(context), some[:, None]), by_hand(net, x, context, some))
    past = torch.ones(5, 5, dtype=torch.bool).tril().expand(2, 5, 5)
    torch.testing.assert_close(net(x, net.keys_values(x), causal=True), by_hand(net, x, x, past))


def test_attention_is_torchs_multi_head_attention() -> None:
    net = attention()
    other = nn.MultiheadAttention(12, 3, batch_first=True)
    parts = (net.query, net.key, net.value)
    with torch.no_grad():
        other.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        other.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    other.out_proj.load_state_dict(net.output.state_dict())
    x, context = numbers(2, 5, 12), numbers(2, 7, 12, seed=2)
    padding = torch.arange(7) >= torch.tensor([[4], [7]])
    expected, _ = other(x, context, context, key_padding_mask=padding)
    torch.testing.assert_close(net(x, net.keys_values(context), ~padding[:, None, None]), expected)


@pytest.mark.parametrize(("width", "heads"), [(12, 1), (12, 3), (8, 8)])
def test_attention_has_the_parameters_of_its_formula(width: int, heads: int) -> None:
    assert sum(p.numel() for p in Attention(width, heads).parameters()) == 4 * (width**2 + width)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(6)))
def test_attention_without_positions_does_not_know_the_order(order: list[int]) -> None:
    net, x = attention(), numbers(2, 6, 12)
    expected = net(x, net.keys_values(x))
    torch.testing.assert_close(net(x, net.keys_values(x[:, order])), expected)
    torch.testing.assert_close(net(x[:, order], net.keys_values(x)), expected[:, order])


def test_keys_and_values_come_after_those_of_the_past() -> None:
    net, x = attention(), numbers(2, 6, 12)
    past = None
    for place in range(6):
        past = net.keys_values(x[:, place : place + 1], past)
        torch.testing.assert_close(past, net.keys_values(x[:, : place + 1]))
        assert past[0].shape == (2, 3, place + 1, 4)


def test_who_sees_nothing_gets_zero_and_a_finite_gradient() -> None:
    net, x = attention(), numbers(2, 6, 12).requires_grad_()
    visible = torch.tensor([[True] * 6, [False] * 6])[:, None, None]
    outputs = net(x, net.keys_values(x), visible)
    torch.testing.assert_close(outputs[1], net.output.bias.expand(6, 12))
    outputs.square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_dropout_zeroes_weights_of_attention_in_training_only() -> None:
    net = attention(width=4, heads=4, dropout=0.25)
    with torch.no_grad():  # the values are 1 and the output is what was attended: a head's sum of its weights
        net.value.weight.zero_()
        net.value.bias.fill_(1)
        net.output.weight.copy_(torch.eye(4))
        net.output.bias.zero_()
        net.query.weight.zero_()
        net.query.bias.zero_()  # equal weights
    x = numbers(50, 20, 4)
    sums = net(x, net.keys_values(x)) * 20 * 0.75  # kept weights are 1 / (20 · 0.75)
    torch.testing.assert_close(sums, sums.round(), rtol=0, atol=1e-4)
    assert sums.mean().item() == pytest.approx(20 * 0.75, rel=0.02)
    assert sums.std().item() == pytest.approx(math.sqrt(20 * 0.25 * 0.75), rel=0.1)
    net.eval()
    torch.testing.assert_close(net(x, net.keys_values(x)), torch.ones(50, 20, 4))


def test_feed_forward_is_its_formula() -> None:
    net = FeedForward(4, 6, "relu")
    x = numbers(2, 3, 4)
    (w1, b1), (w2, b2) = net.hidden.parameters(), net.output.parameters()
    torch.testing.assert_close(net(x), (x @ w1.T + b1).clamp(min=0) @ w2.T + b2)


def test_padding_is_found_by_number_by_mask_and_by_both() -> None:
    tokens = torch.tensor([[5, 6, 0, 0], [0, 1, 2, 3]])
    mask = torch.tensor([[False, True, True, False], [False] * 4])
    assert visible_tokens(tokens, None, None).all()
    assert torch.equal(visible_tokens(tokens, 0, None), tokens != 0)
    assert torch.equal(visible_tokens(tokens, None, mask), ~mask)
    expected = torch.tensor([[True, False, False, False], [False, True, True, True]])
    assert torch.equal(visible_tokens(tokens, 0, mask), expected)


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_a_norm_is_of_each_place(norm: str) -> None:
    layer, x = token_norm(norm, 4), numbers(2, 3, 4)
    centred = x - x.mean(-1, keepdim=True) if norm == "layer" else x
    torch.testing.assert_close(
        layer(x), centred / centred.square().mean(-1, keepdim=True).sqrt(), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("norm", ["batch", "group", {"name": "ghost_batch", "size": 4}, "leyer"])
def test_norms_that_mix_places_are_refused(norm: Any) -> None:
    with pytest.raises(UserError, match="layer, rms or none"):
        token_norm(norm, 4)


@pytest.mark.parametrize(("width", "heads", "message"), [(12, 5, "do not divide"), (0, 1, "width"), (4, 0, "heads")])
def test_attention_refuses_what_makes_no_sense(width: int, heads: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Attention(width, heads)


def test_what_are_no_tokens_is_refused() -> None:
    assert token_length((7,)) == 7
    with pytest.raises(UserError, match="token numbers"):
        token_length((1, 28, 28))
    with pytest.raises(UserError, match=r"float32 of shape \(2, 3\)"):
        check_tokens(torch.zeros(2, 3))
    with pytest.raises(UserError, match="whole token numbers"):
        check_tokens(torch.zeros(2, 3, 4, dtype=torch.long))
    with pytest.raises(UserError, match="5 tokens are more than the net's 4 positions"):
        check_tokens(torch.zeros(2, 5, dtype=torch.long), 4)
