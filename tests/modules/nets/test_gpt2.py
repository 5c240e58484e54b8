"""GPT-2: its size, its twins in torch and in transformers, and that it does not see the future."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves, tree_map

from trainoff.errors import UserError
from trainoff.modules.initialisation_functions import initialise
from trainoff.modules.nets import GPT2
from trainoff.modules.nets.drop_path import DropPath

LENGTH, VOCABULARY = 9, 11


def tiny(**arguments: Any) -> GPT2:
    torch.manual_seed(0)
    return GPT2((LENGTH,), VOCABULARY, **{"width": 16, "depth": 2, "heads": 4, "dropout": 0.0, **arguments})


def lively(**arguments: Any) -> GPT2:
    """With weights so large that every part counts."""
    net = tiny(**arguments).eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    return net


def tokens(samples: int = 3, length: int = LENGTH) -> Tensor:
    return torch.randint(VOCABULARY, (samples, length), generator=torch.Generator().manual_seed(1))


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("width", "depth", "heads", "published"),
    [
        (768, 12, 12, 124_439_808),
        (1024, 24, 16, 354_823_168),
        (1280, 36, 20, 774_030_080),
        (1600, 48, 25, 1_557_611_200),
    ],
)
def test_parameters_are_as_many_as_published(width: int, depth: int, heads: int, published: int) -> None:
    with torch.device("meta"):
        assert count(GPT2((1024,), 50_257, width=width, depth=depth, heads=heads)) == published


@pytest.mark.parametrize(("width", "depth"), [(8, 1), (12, 3)])
def test_parameters_are_as_many_as_counted_by_hand(width: int, depth: int) -> None:
    block = 4 * (width**2 + width) + 8 * width**2 + 5 * width
    embeddings = (LENGTH + VOCABULARY) * width
    net = tiny(width=width, depth=depth)
    assert count(net) == embeddings + depth * (block + 4 * width) + 2 * width
    assert count(tiny(width=width, depth=depth, norm="rms")) == embeddings + depth * (block + 2 * width) + width
    assert count(tiny(width=width, depth=depth, norm=None)) == embeddings + depth * block


def test_it_is_torchs_encoder_with_a_causal_mask() -> None:
    net = lively()
    x = net.tokens(tokens()) + net.positions.weight
    for block in net.blocks:
        twin = nn.TransformerEncoderLayer(
            16, 4, 64, activation=lambda x: F.gelu(x, approximate="tanh"), batch_first=True, norm_first=True
        ).eval()
        ours: Any = block
        attention = ours.attention
        parts = (attention.query, attention.key, attention.value)
        with torch.no_grad():
            twin.self_attn.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
            twin.self_attn.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        twin.self_attn.out_proj.load_state_dict(attention.output.state_dict())
        twin.linear1.load_state_dict(ours.dense.hidden.state_dict())
        twin.linear2.load_state_dict(ours.dense.output.state_dict())
        twin.norm1.load_state_dict(ours.norm1.state_dict())
        twin.norm2.load_state_dict(ours.norm2.state_dict())
        x = twin(x, src_mask=torch.full((LENGTH, LENGTH), -math.inf).triu(1))
    x = F.layer_norm(x, (16,), net.norm.weight, net.norm.bias)  # type: ignore[arg-type]
    torch.testing.assert_close(net(tokens()), x @ net.tokens.weight.T, rtol=1e-4, atol=1e-4)


def test_it_is_the_one_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=VOCABULARY, n_positions=LENGTH, n_embd=16, n_layer=2, n_head=4)
    twin = transformers.GPT2LMHeadModel(config).eval()
    net = lively()
    state = {"wte.weight": net.tokens.weight, "wpe.weight": net.positions.weight}
    state |= {"ln_f.weight": net.norm.weight, "ln_f.bias": net.norm.bias}
    for number, block in enumerate(net.blocks):
        ours: Any = block
        parts = (ours.attention.query, ours.attention.key, ours.attention.value)
        state[f"h.{number}.attn.c_attn.weight"] = torch.cat([part.weight for part in parts]).T
        state[f"h.{number}.attn.c_attn.bias"] = torch.cat([part.bias for part in parts])
        for theirs, layer in (
            ("attn.c_proj", ours.attention.output),
            ("mlp.c_fc", ours.dense.hidden),
            ("mlp.c_proj", ours.dense.output),
            ("ln_1", ours.norm1),
            ("ln_2", ours.norm2),
        ):
            state[f"h.{number}.{theirs}.weight"] = layer.weight.T if layer.weight.ndim == 2 else layer.weight
            state[f"h.{number}.{theirs}.bias"] = layer.bias
    twin.transformer.load_state_dict({name: weight.detach() for name, weight in state.items()})
    assert count(twin) == count(net)
    torch.testing.assert_close(net(tokens()), twin(tokens()).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", ["layer", "rms", None])
def test_the_future_changes_nothing(norm: str | None) -> None:
    net = lively(norm=norm)
    before = net(tokens())
    for place in range(1, LENGTH):
        other = tokens()
        other[:, place:] = (other[:, place:] + 1) % VOCABULARY
        after = net(other)
        assert torch.equal(after[:, :place], before[:, :place])
        assert not torch.isclose(after[:, place:], before[:, place:]).all(-1).any()


def test_each_place_sees_itself_and_all_before() -> None:
    net = lively()
    embedded = net.tokens(tokens(samples=1)).detach().requires_grad_()
    net.tokens.forward = lambda _: embedded  # type: ignore[method-assign]
    for place, logits in enumerate(net(tokens(samples=1))[0]):
        (gradient,) = torch.autograd.grad(logits[0], embedded, retain_graph=True)
        assert gradient.abs().sum(-1)[0].gt(0).tolist() == [t <= place for t in range(LENGTH)]


def test_step_by_step_it_gives_the_same() -> None:
    net = lively()
    expected, cache = net(tokens()), None
    for place in range(LENGTH):
        logits, cache = net.decode_step(tokens()[:, place], cache)
        torch.testing.assert_close(logits, expected[:, place], rtol=1e-4, atol=1e-4)
        assert all(len(tensor) == 3 for tensor in tree_leaves(cache))
    with pytest.raises(UserError, match="1 tokens are more than the net's 0 positions"):
        net.decode_step(tokens()[:, 0], cache)


def test_a_cache_can_be_reordered() -> None:
    net, rows = lively(), torch.tensor([2, 0, 0, 1])
    _, cache = net.decode_step(tokens()[:, 0])
    _, cache = net.decode_step(tokens()[:, 1], cache)
    cache = tree_map(lambda tensor: tensor.index_select(0, rows), cache)
    logits, _ = net.decode_step(tokens()[rows, 2], cache)
    torch.testing.assert_close(logits, net(tokens())[rows, 2], rtol=1e-4, atol=1e-4)


class OneStep(nn.Module):
    """A step as a net, to export it."""

    def __init__(self, net: GPT2) -> None:
        super().__init__()
        self.net = net

    def forward(self, tokens: Tensor, cache: Any) -> Any:
        return self.net.decode_step(tokens, cache)


def test_a_step_is_compiled_and_exported() -> None:
    net = lively()
    expected = net(tokens())
    step: Any = torch.compile(OneStep(net), backend="aot_eager")
    cache = None
    for place in range(3):
        logits, cache = step(tokens()[:, place], cache)
        torch.testing.assert_close(logits, expected[:, place], rtol=1e-4, atol=1e-4)
    samples = {0: torch.export.Dim("samples", min=1, max=64)}
    arguments = (tokens()[:, 3], cache)
    exported = torch.export.export(OneStep(net), arguments, dynamic_shapes=tree_map(lambda _: samples, arguments))
    rows = torch.tensor([2, 0, 0, 1, 1])
    more = tree_map(lambda tensor: tensor[rows], arguments)
    torch.testing.assert_close(exported.module()(*more)[0], expected[rows, 3], rtol=1e-4, atol=1e-4)


def test_weights_start_as_said() -> None:
    torch.manual_seed(0)
    net = GPT2((512,), 500, width=128, depth=8, heads=4)
    for name, parameter in net.named_parameters():
        if "norm" in name:
            assert (parameter == (1 if name.endswith("weight") else 0)).all()
        elif name.endswith("bias"):
            assert (parameter == 0).all()
        else:
            deviation = 0.02 / 4 if name.endswith("output.weight") else 0.02  # √(2 · 8) = 4
            assert parameter.std().item() == pytest.approx(deviation, rel=0.03)


@pytest.mark.parametrize(("name", "norm"), [("zero_residual", "layer"), ("fixup", None)])
def test_initialisations_find_the_residual_branches(name: str, norm: str | None) -> None:
    net = tiny(norm=norm).eval()
    initialise(net, {"name": name})
    x = net.tokens(tokens()) + net.positions.weight
    torch.testing.assert_close(net(tokens()), net.norm(x) @ net.tokens.weight.T)


def test_branches_are_left_out_more_the_deeper() -> None:
    net = tiny(depth=3, drop_path=0.6)
    shares = [layer.p for layer in net.modules() if isinstance(layer, DropPath)]
    assert shares == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


def test_without_branches_it_is_embeddings_alone() -> None:
    net = lively()
    for layer in net.modules():
        if isinstance(layer, DropPath):
            layer.train()
            layer.p = 1 - 1e-9
    x = net.tokens(tokens()) + net.positions.weight
    expected = F.layer_norm(x, (16,), net.norm.weight, net.norm.bias) @ net.tokens.weight.T  # type: ignore[arg-type]
    torch.testing.assert_close(net(tokens()), expected)


def test_it_learns_to_repeat() -> None:
    """The second half of a sample is its first: 1 / vocabulary by chance."""
    net = GPT2((12,), VOCABULARY, width=32, depth=2, heads=4, dropout=0.0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(300):
        half = torch.randint(VOCABULARY, (64, 6), generator=generator)
        x = torch.cat([half, half], 1)
        logits = net(x[:, :-1])[:, 5:]
        loss = F.cross_entropy(logits.flatten(0, 1), x[:, 6:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(VOCABULARY), rel=0.1)
    assert losses[-1] < 0.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"heads": 3}, "heads: 3 heads do not divide a width of 16"),
        ({"depth": 0}, "depth"),
        ({"width": 1.5}, "width"),
        ({"activation": "gelu_tan"}, "did you mean gelu_tanh"),
        ({"norm": "batch"}, "layer, rms or none"),
        ({"dropout": 1.0}, r"\[0, 1\)"),
        ({"drop_path": -0.1}, r"\[0, 1\)"),
    ],
)
def test_it_refuses_what_makes_no_sense(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny(**arguments)


def test_it_refuses_images_and_long_samples() -> None:
    with pytest.raises(UserError, match="takes token numbers"):
        GPT2((1, 28, 28), 10)
    with pytest.raises(UserError, match="10 tokens are more than the net's 9 positions"):
        tiny()(tokens(length=10))
