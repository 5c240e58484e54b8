"""The transformer: its size, its twin in torch, what it sees, and decoding step by step."""

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
from trainoff.modules.nets import Transformer
from trainoff.modules.nets.drop_path import DropPath
from trainoff.modules.nets.transformer import sinusoidal_positions


def tiny(**arguments: Any) -> Transformer:
    torch.manual_seed(0)
    arguments = {"width": 16, "depth": 2, "heads": 4, "dropout": 0.0, **arguments}
    return Transformer((SOURCE,), VOCABULARY, **arguments)


def lively(**arguments: Any) -> Any:
    return enlarged(tiny(**arguments), 0.3)


def test_base_has_as_many_parameters_as_torchs_and_the_embeddings() -> None:
    with torch.device("meta"):
        net = Transformer((512,), 37_000)
        twin = nn.Transformer(512, 8, 6, 6, 2048)
    last_norms = 2 * 2 * 512  # which torch adds and the paper has not
    assert count(net) == count(twin) - last_norms + 37_000 * 512 == 63_082_496
    assert round(count(net) / 65e6, 1) == 1.0  # the paper says 65 M


def test_big_has_as_many_parameters_as_torchs_and_the_embeddings() -> None:
    with torch.device("meta"):
        net = Transformer((512,), 37_000, width=1024, heads=16)
        twin = nn.Transformer(1024, 16, 6, 6, 4096)
    assert count(net) == count(twin) - 2 * 2 * 1024 + 37_000 * 1024
    assert round(count(net) / 213e6, 1) == 1.0  # the paper says 213 M


@pytest.mark.parametrize(("width", "depth", "hidden"), [(8, 1, 5), (12, 3, 7)])
def test_parameters_are_as_many_as_counted_by_hand(width: int, depth: int, hidden: int) -> None:
    attention, dense, norm = 4 * (width**2 + width), 2 * width * hidden + width + hidden, 2 * width
    layers = depth * (3 * attention + 2 * dense + 5 * norm)
    assert count(tiny(width=width, depth=depth, hidden=hidden)) == VOCABULARY * width + layers


def copy_attention(ours: Any, theirs: nn.MultiheadAttention) -> None:
    parts = (ours.query, ours.key, ours.value)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    theirs.out_proj.load_state_dict(ours.output.state_dict())


def torch_twin(net: Any) -> Any:
    """nn.Transformer, without its last norms, with the same weights."""
    sizes = {"d_model": 16, "nhead": 4, "dim_feedforward": 64, "dropout": 0.0, "batch_first": True}
    twin: Any = nn.Transformer(num_encoder_layers=2, num_decoder_layers=2, **sizes)  # type: ignore[arg-type]
    twin.encoder.norm = twin.decoder.norm = None
    for ours, theirs in zip(net.encoder, twin.encoder.layers, strict=True):
        copy_attention(ours.attention, theirs.self_attn)
        theirs.norm1.load_state_dict(ours.norm1.state_dict())
        theirs.norm2.load_state_dict(ours.norm2.state_dict())
    for ours, theirs in zip(net.decoder, twin.decoder.layers, strict=True):
        copy_attention(ours.attention, theirs.self_attn)
        copy_attention(ours.source_attention, theirs.multihead_attn)
        theirs.norm1.load_state_dict(ours.norm1.state_dict())
        theirs.norm2.load_state_dict(ours.norm2.state_dict())
        theirs.norm3.load_state_dict(ours.norm3.state_dict())
    for ours, theirs in zip([*net.encoder, *net.decoder], [*twin.encoder.layers, *twin.decoder.layers], strict=True):
        theirs.linear1.load_state_dict(ours.dense.hidden.state_dict())
        theirs.linear2.load_state_dict(ours.dense.output.state_dict())
    return twin


def positions_by_hand(length: int, width: int) -> Tensor:
    rows = [
        [(math.cos if i % 2 else math.sin)(place / 10_000 ** (2 * (i // 2) / width)) for i in range(width)]
        for place in range(length)
    ]
    return torch.tensor(rows)


def test_it_is_torchs() -> None:
    net = lively()
    source, target, padding = tokens(SOURCE), tokens(TARGET, seed=2), some_padding()
    outputs = torch_twin(net)(
        net.tokens(source) * 4 + positions_by_hand(SOURCE, 16),
        net.tokens(target) * 4 + positions_by_hand(TARGET, 16),
        tgt_mask=torch.ones(TARGET, TARGET, dtype=torch.bool).triu(1),
        src_key_padding_mask=padding,
        memory_key_padding_mask=padding,
    )
    expected = outputs @ net.tokens.weight.T
    torch.testing.assert_close(net(source, target, padding), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("width", [2, 16, 512])
def test_positions_are_their_formula(width: int) -> None:
    expected = positions_by_hand(100, width)
    torch.testing.assert_close(sinusoidal_positions(0, 100, width), expected, rtol=0, atol=2e-5)
    torch.testing.assert_close(sinusoidal_positions(40, 60, width), expected[40:], rtol=0, atol=2e-5)


@pytest.mark.parametrize("norm", ["layer", "rms", None])
def test_the_future_changes_nothing(norm: str | None) -> None:
    net = lively(norm=norm)
    source, target = tokens(SOURCE), tokens(TARGET, seed=2)
    before = net(source, target)
    for place in range(1, TARGET):
        other = target.clone()
        other[:, place:] = (other[:, place:] + 1) % VOCABULARY
        after = net(source, other)
        assert torch.equal(after[:, :place], before[:, :place])
        assert not torch.isclose(after[:, place:], before[:, place:]).all(-1).any()


def test_each_output_sees_the_whole_source() -> None:
    net = lively()
    source, target = tokens(SOURCE), tokens(TARGET, seed=2)
    before = net(source, target)
    for place in range(SOURCE):
        other = source.clone()
        other[:, place] = (other[:, place] + 1) % VOCABULARY
        assert not torch.isclose(net(other, target), before).all(-1).any()


def test_what_stands_at_padding_changes_nothing() -> None:
    net, padding = lively(), some_padding()
    source, target = tokens(SOURCE), tokens(TARGET, seed=2)
    other = torch.where(padding, tokens(SOURCE, seed=3), source)
    assert not torch.equal(other, source)
    assert torch.equal(net(other, target, padding), net(source, target, padding))
    assert not torch.allclose(net(other, target), net(source, target))


def test_a_padding_number_is_a_mask_and_the_length_of_padding_changes_nothing() -> None:
    net, padding = lively(padding_id=0), some_padding()
    source, target = tokens(SOURCE), tokens(TARGET, seed=2)
    outputs = net(source.masked_fill(padding, 0), target)
    plain = lively()
    torch.testing.assert_close(outputs, plain(source, target, padding))
    torch.testing.assert_close(outputs[:1], plain(source[:1, :3], target[:1]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(outputs[1:2], plain(source[1:2, :6], target[1:2]), rtol=1e-4, atol=1e-4)


def test_a_source_of_nothing_but_padding_is_finite() -> None:
    net = lively(padding_id=0)
    outputs = net(torch.zeros(2, SOURCE, dtype=torch.long), tokens(TARGET, samples=2))
    assert outputs.isfinite().all()
    outputs.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


def test_step_by_step_it_gives_the_same() -> None:
    net = lively(padding_id=0)
    source, target = tokens(SOURCE).masked_fill(some_padding(), 0), tokens(TARGET, seed=2)
    expected, memory, cache = net(source, target), net.encode(source), None
    for place in range(TARGET):
        logits, cache = net.decode_step(target[:, place], memory, cache)
        torch.testing.assert_close(logits, expected[:, place], rtol=1e-4, atol=1e-4)
    assert all(len(tensor) == 3 for tensor in tree_leaves((memory, cache)))


def test_memory_and_cache_can_be_reordered() -> None:
    net, rows = lively(padding_id=0), torch.tensor([2, 0, 0, 1])
    source, target = tokens(SOURCE).masked_fill(some_padding(), 0), tokens(TARGET, seed=2)
    memory = net.encode(source)
    _, cache = net.decode_step(target[:, 0], memory)
    memory, cache = tree_map(lambda tensor: tensor.index_select(0, rows), (memory, cache))
    logits, _ = net.decode_step(target[rows, 1], memory, cache)
    torch.testing.assert_close(logits, net(source, target)[rows, 1], rtol=1e-4, atol=1e-4)


class OneStep(nn.Module):
    """A step as a net, to export it."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, tokens: Tensor, memory: Any, cache: Any) -> Any:
        return self.net.decode_step(tokens, memory, cache)


def test_with_padding_net_and_step_are_compiled_and_exported() -> None:
    net = lively(padding_id=0)
    source, target = tokens(SOURCE).masked_fill(some_padding(), 0), tokens(TARGET, seed=2)
    expected, memory, cache = net(source, target), net.encode(source), None
    compiled: Any = torch.compile(net, backend="aot_eager")
    torch.testing.assert_close(compiled(source, target), expected)
    samples = {0: torch.export.Dim("samples", min=1, max=64)}
    rows = torch.tensor([2, 0, 0, 1, 1])
    exported = torch.export.export(net, (source, target), dynamic_shapes=(samples, samples)).module()
    torch.testing.assert_close(exported(source[rows], target[rows]), expected[rows], rtol=1e-4, atol=1e-4)

    step: Any = torch.compile(OneStep(net), backend="aot_eager")
    for place in range(2):
        logits, cache = step(target[:, place], memory, cache)
        torch.testing.assert_close(logits, expected[:, place], rtol=1e-4, atol=1e-4)
    arguments = (target[:, 2], memory, cache)
    shapes = tree_map(lambda _: samples, arguments)
    exported = torch.export.export(OneStep(net), arguments, dynamic_shapes=shapes).module()
    logits, _ = exported(*tree_map(lambda tensor: tensor[rows], arguments))
    torch.testing.assert_close(logits, expected[rows, 2], rtol=1e-4, atol=1e-4)


def test_weights_start_as_said() -> None:
    torch.manual_seed(0)
    net = Transformer((8,), 500, width=128, depth=1, heads=4)
    assert net.tokens.weight.std().item() == pytest.approx(128**-0.5, rel=0.02)
    layer: Any = net.encoder[0]
    assert layer.dense.hidden.weight.abs().max().item() == pytest.approx(math.sqrt(6 / (128 + 512)), rel=0.01)
    assert (layer.dense.hidden.bias == 0).all()


def test_branches_are_left_out_more_the_deeper() -> None:
    net = tiny(drop_path=0.6)
    encoder = [layer.p for layer in net.encoder.modules() if isinstance(layer, DropPath)]
    decoder = [layer.p for layer in net.decoder.modules() if isinstance(layer, DropPath)]
    assert encoder == pytest.approx([0.15, 0.3, 0.45, 0.6])
    assert decoder == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


def test_it_learns_to_reverse() -> None:
    """Token 0 begins a target; a target is its source from behind."""
    net = tiny(width=32)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(250):
        source = torch.randint(1, VOCABULARY, (64, 6), generator=generator)
        target = source.flip(1)
        logits = net(source, F.pad(target[:, :-1], (1, 0)))
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) / 20 < 0.3 * math.log(VOCABULARY)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"heads": 3}, "do not divide"),
        ({"width": 15, "heads": 5}, "even"),
        ({"depth": 0}, "depth"),
        ({"hidden": 0}, "hidden"),
        ({"norm": "batch"}, "layer, rms or none"),
        ({"activation": "rellu"}, "did you mean relu"),
        ({"dropout": 1.0}, r"\[0, 1\)"),
    ],
)
def test_it_refuses_what_makes_no_sense(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny(**arguments)


def test_it_refuses_images_and_takes_longer_sequences() -> None:
    with pytest.raises(UserError, match="takes token numbers"):
        Transformer((1, 28, 28), 10)
    assert tiny()(tokens(3 * SOURCE), tokens(4 * SOURCE)).shape == (3, 4 * SOURCE, VOCABULARY)
