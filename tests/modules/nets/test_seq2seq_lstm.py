"""LSTMs from sequence to sequence: their size, the cells' formula by hand, padding, and decoding step by step."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from net_measures import count
from sequence_pairs import SOURCE, TARGET, VOCABULARY, enlarged, some_padding, tokens
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves, tree_map

from trainoff.errors import UserError
from trainoff.modules.nets import Seq2SeqLSTM

WIDTH = 6
ATTENTIONS = [None, "luong", "bahdanau"]


def tiny(**arguments: Any) -> Seq2SeqLSTM:
    torch.manual_seed(0)
    return Seq2SeqLSTM((SOURCE,), VOCABULARY, **{"width": WIDTH, "depth": 2, **arguments})


def lively(**arguments: Any) -> Any:
    return enlarged(tiny(**arguments), 0.5)


def test_it_has_the_published_parameters() -> None:
    with torch.device("meta"):
        net = Seq2SeqLSTM((50,), 80_000, source_size=160_000)
    assert count(net) == 384_000_000
    assert count(net.encoder) == count(net.decoder) == 32_000_000


@pytest.mark.parametrize(("width", "depth"), [(5, 1), (6, 3)])
def test_parameters_are_as_many_as_counted_by_hand(width: int, depth: int) -> None:
    plain = 3 * VOCABULARY * width + 2 * depth * 8 * width**2
    combine, additive, context = 2 * width**2, 2 * width**2 + width, 4 * width**2
    assert count(tiny(width=width, depth=depth)) == plain
    assert count(tiny(width=width, depth=depth, attention="luong")) == plain + combine
    assert count(tiny(width=width, depth=depth, attention="bahdanau")) == plain + combine + additive + context


def cell(layer: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One place of one layer: Hochreiter & Schmidhuber's cell, with a forget gate."""
    gates = layer.weight_ih_l0 @ x + layer.weight_hh_l0 @ h
    i, f, g, o = gates.view(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def advance(stack: Any, x: Tensor, states: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """One place of all layers."""
    new = []
    for layer, (h, c) in zip(stack.layers, states, strict=True):
        x, c = cell(layer, x, h, c)
        new.append((x, c))
    return x, new


def by_hand(net: Any, source: Tensor, target_inputs: Tensor) -> Tensor:
    """One sample without padding, place by place."""
    states = [(torch.zeros(WIDTH), torch.zeros(WIDTH)) for _ in net.encoder.layers]
    outputs = []
    for token in reversed(source.tolist()):
        x, states = advance(net.encoder, net.source_tokens.weight[token], states)
        outputs.append(x)
    encoded = torch.stack(outputs)
    logits = []
    for token in target_inputs.tolist():
        x = net.target_tokens.weight[token]
        if net.attention == "bahdanau":
            query = net.additive.query.weight @ states[-1][0]
            scores = [
                (net.additive.score.weight[0] * torch.tanh(query + net.additive.key.weight @ h)).sum() for h in encoded
            ]
            context = torch.stack(scores).softmax(0) @ encoded
            x = torch.cat([x, context])
        x, states = advance(net.decoder, x, states)
        if net.attention == "luong":
            context = (encoded @ x).softmax(0) @ encoded
        if net.attention is not None:
            x = torch.tanh(net.combine.weight @ torch.cat([context, x]))
        logits.append(net.output.weight @ x)
    return torch.stack(logits)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("depth", [1, 3])
def test_it_is_its_formula(attention: str | None, depth: int) -> None:
    net = lively(attention=attention, depth=depth)
    source, target = tokens(SOURCE), tokens(TARGET, seed=2)
    expected = torch.stack([by_hand(net, *pair) for pair in zip(source, target, strict=True)])
    torch.testing.assert_close(net(source, target), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_what_stands_at_padding_changes_nothing(attention: str | None) -> None:
    net, padding = lively(attention=attention), some_padding()
    source, target = tokens(SOURCE), tokens(TARGET, seed=2)
    other = torch.where(padding, tokens(SOURCE, seed=3), source)
    assert not torch.equal(other, source)
    assert torch.equal(net(other, target, padding), net(source, target, padding))
    assert not torch.allclose(net(other, target), net(source, target))


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_padding_number_is_a_mask_and_the_length_of_padding_changes_nothing(attention: str | None) -> None:
    net, padding = lively(padding_id=0, attention=attention), some_padding()
    source, target = tokens(SOURCE), tokens(TARGET, seed=2)
    outputs = net(source.masked_fill(padding, 0), target)
    plain = lively(attention=attention)
    torch.testing.assert_close(outputs, plain(source, target, padding))
    torch.testing.assert_close(outputs[:1], plain(source[:1, :3], target[:1]))
    torch.testing.assert_close(outputs[1:2], plain(source[1:2, :6], target[1:2]))


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_source_of_nothing_but_padding_is_finite(attention: str | None) -> None:
    net = lively(padding_id=0, attention=attention)
    outputs = net(torch.zeros(2, SOURCE, dtype=torch.long), tokens(TARGET, samples=2))
    assert outputs.isfinite().all()
    outputs.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_the_future_changes_nothing(attention: str | None) -> None:
    net = lively(attention=attention)
    source, target = tokens(SOURCE), tokens(TARGET, seed=2)
    before = net(source, target)
    for place in range(1, TARGET):
        other = target.clone()
        other[:, place:] = (other[:, place:] + 1) % VOCABULARY
        after = net(source, other)
        assert torch.equal(after[:, :place], before[:, :place])
        assert not torch.isclose(after[:, place:], before[:, place:]).all(-1).any()


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_step_by_step_it_gives_the_same(attention: str | None) -> None:
    net = lively(padding_id=0, attention=attention)
    source, target = tokens(SOURCE).masked_fill(some_padding(), 0), tokens(TARGET, seed=2)
    expected, memory, cache = net(source, target), net.encode(source), None
    for place in range(TARGET):
        logits, cache = net.decode_step(target[:, place], memory, cache)
        torch.testing.assert_close(logits, expected[:, place])
    assert all(len(tensor) == 3 for tensor in tree_leaves((memory, cache)))


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_memory_and_cache_can_be_reordered(attention: str | None) -> None:
    net, rows = lively(padding_id=0, attention=attention), torch.tensor([2, 0, 0, 1])
    source, target = tokens(SOURCE).masked_fill(some_padding(), 0), tokens(TARGET, seed=2)
    memory = net.encode(source)
    _, cache = net.decode_step(target[:, 0], memory)
    memory, cache = tree_map(lambda tensor: tensor.index_select(0, rows), (memory, cache))
    logits, _ = net.decode_step(target[rows, 1], memory, cache)
    torch.testing.assert_close(logits, net(source, target)[rows, 1])


class OneStep(nn.Module):
    """A step as a net, to export it."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, tokens: Tensor, memory: Any, cache: Any) -> Any:
        return self.net.decode_step(tokens, memory, cache)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_with_padding_net_and_step_are_compiled_and_exported(attention: str | None) -> None:
    net = lively(padding_id=0, attention=attention)
    source, target = tokens(SOURCE).masked_fill(some_padding(), 0), tokens(TARGET, seed=2)
    expected, memory = net(source, target), net.encode(source)
    compiled: Any = torch.compile(net, backend="aot_eager")
    torch.testing.assert_close(compiled(source, target), expected)
    samples = {0: torch.export.Dim("samples", min=1, max=64)}
    rows = torch.tensor([2, 0, 0, 1, 1])
    exported = torch.export.export(net, (source, target), dynamic_shapes=(samples, samples)).module()
    torch.testing.assert_close(exported(source[rows], target[rows]), expected[rows])

    step: Any = torch.compile(OneStep(net), backend="aot_eager")
    logits, cache = step(target[:, 0], memory, None)
    torch.testing.assert_close(logits, expected[:, 0])
    arguments = (target[:, 1], memory, cache)
    shapes = tree_map(lambda _: samples, arguments)
    exported = torch.export.export(OneStep(net), arguments, dynamic_shapes=shapes).module()
    logits, _ = exported(*tree_map(lambda tensor: tensor[rows], arguments))
    torch.testing.assert_close(logits, expected[rows, 1])


def test_weights_start_as_in_the_paper() -> None:
    net = tiny(width=64, attention="bahdanau")
    for parameter in net.parameters():
        assert 0.07 < parameter.abs().max() <= 0.08


def test_dropout_is_not_on_the_way_from_place_to_place() -> None:
    """With every path between layers cut, the states still come from the places before through h and c alone."""
    net = lively(depth=1)
    x = torch.randn(2, TARGET, WIDTH, generator=torch.Generator().manual_seed(1))
    outputs, states = net.decoder(x)
    net.train()
    net.decoder.dropouts[-1].p = 0.5
    dropped, same = net.decoder(x)
    torch.testing.assert_close(same, states)
    kept = dropped != 0
    assert 0 < kept.float().mean() < 1
    torch.testing.assert_close(dropped[kept], 2 * outputs[kept])


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_it_learns_to_copy(attention: str | None) -> None:
    """Token 0 begins a target; a target is its source. Reversed, its first token is the last that was read."""
    net = tiny(width=32, depth=1, attention=attention)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(250):
        source = torch.randint(1, VOCABULARY, (64, 4), generator=generator)
        logits = net(source, F.pad(source[:, :-1], (1, 0)))
        loss = F.cross_entropy(logits.flatten(0, 1), source.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(VOCABULARY), rel=0.02)
    assert sum(losses[-20:]) / 20 < 0.4 * math.log(VOCABULARY)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attention": "loung"}, "did you mean luong"),
        ({"width": 0}, "width"),
        ({"depth": 0}, "depth"),
        ({"source_size": 0}, "source_size"),
        ({"dropout": 1.0}, r"\[0, 1\)"),
    ],
)
def test_it_refuses_what_makes_no_sense(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny(**arguments)


def test_it_refuses_images_and_takes_longer_sequences() -> None:
    with pytest.raises(UserError, match="takes token numbers"):
        Seq2SeqLSTM((1, 28, 28), 10)
    assert tiny()(tokens(3 * SOURCE), tokens(4 * SOURCE)).shape == (3, 4 * SOURCE, VOCABULARY)
