"""BERT: its size, its twins in torch and in transformers, and that padding changes nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.nets import Bert
from trainoff.modules.nets.drop_path import DropPath

LENGTH, VOCABULARY = 9, 11


def tiny(output_size: int = VOCABULARY, **arguments: Any) -> Bert:
    torch.manual_seed(0)
    return Bert((LENGTH,), output_size, **{"width": 16, "depth": 2, "heads": 4, "dropout": 0.0, **arguments})


def lively(output_size: int = VOCABULARY, **arguments: Any) -> Any:
    """With weights so large that every part counts."""
    net = tiny(output_size, **arguments).eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    return net


def tokens(samples: int = 3, length: int = LENGTH, seed: int = 1) -> Tensor:
    return torch.randint(1, VOCABULARY, (samples, length), generator=torch.Generator().manual_seed(seed))


def some_types() -> Tensor:
    return (torch.arange(LENGTH) > torch.tensor([[3], [5], [8]])).long()


def some_padding() -> Tensor:
    """True from place 4, from place 7, and nowhere."""
    return torch.arange(LENGTH) >= torch.tensor([[4], [7], [LENGTH]])


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_base_has_the_published_parameters() -> None:
    with torch.device("meta"):
        masked: Any = Bert((512,), 30_522)
        classes: Any = Bert((512,), 3, head="classes", vocabulary=30_522)
    assert count(masked) == 109_514_298
    assert count(classes.encoder) + count(classes.head.pooler) == 109_482_240
    assert count(classes) == 109_482_240 + 3 * 768 + 3


def test_large_has_the_published_parameters() -> None:
    with torch.device("meta"):
        net: Any = Bert((512,), 2, "classes", 30_522, width=1024, depth=24, heads=16)
    assert count(net.encoder) + count(net.head.pooler) == 335_141_888


@pytest.mark.parametrize(("width", "depth"), [(8, 1), (12, 3)])
def test_parameters_are_as_many_as_counted_by_hand(width: int, depth: int) -> None:
    layer = 4 * (width**2 + width) + 8 * width**2 + 5 * width + 4 * width
    trunk = (VOCABULARY + LENGTH + 2) * width + 2 * width + depth * layer
    dense = width**2 + width
    assert count(tiny(width=width, depth=depth)) == trunk + dense + 2 * width + VOCABULARY
    assert count(tiny(3, head="classes", vocabulary=VOCABULARY, width=width, depth=depth)) == (
        trunk + dense + 3 * width + 3
    )


def test_it_is_torchs_encoder() -> None:
    net = lively()
    encoder = net.encoder
    x = encoder.tokens(tokens()) + encoder.positions.weight + encoder.types(some_types())
    x = F.layer_norm(x, (16,), encoder.norm.weight, encoder.norm.bias, eps=1e-12)
    for layer in encoder.layers:
        twin = nn.TransformerEncoderLayer(16, 4, 64, activation="gelu", batch_first=True, layer_norm_eps=1e-12)
        parts = (layer.attention.query, layer.attention.key, layer.attention.value)
        with torch.no_grad():
            twin.self_attn.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
            twin.self_attn.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        twin.self_attn.out_proj.load_state_dict(layer.attention.output.state_dict())
        twin.linear1.load_state_dict(layer.dense.hidden.state_dict())
        twin.linear2.load_state_dict(layer.dense.output.state_dict())
        twin.norm1.load_state_dict(layer.norm1.state_dict())
        twin.norm2.load_state_dict(layer.norm2.state_dict())
        twin.dropout.p = twin.dropout1.p = twin.dropout2.p = twin.self_attn.dropout = 0.0
        x = twin(x, src_key_padding_mask=some_padding())
    head = net.head
    x = F.layer_norm(F.gelu(head.dense(x)), (16,), head.norm.weight, head.norm.bias, eps=1e-12)
    expected = x @ encoder.tokens.weight.T + head.bias
    real = ~some_padding()
    torch.testing.assert_close(net(tokens(), some_types(), some_padding())[real], expected[real], rtol=1e-4, atol=1e-4)


def transformers_state(net: Any) -> dict[str, Tensor]:
    """The encoder's weights under the names of transformers."""
    encoder = net.encoder
    named = {
        "embeddings.word_embeddings": encoder.tokens,
        "embeddings.position_embeddings": encoder.positions,
        "embeddings.token_type_embeddings": encoder.types,
        "embeddings.LayerNorm": encoder.norm,
    }
    for number, layer in enumerate(encoder.layers):
        named |= {
            f"encoder.layer.{number}.{theirs}": ours
            for theirs, ours in {
                "attention.self.query": layer.attention.query,
                "attention.self.key": layer.attention.key,
                "attention.self.value": layer.attention.value,
                "attention.output.dense": layer.attention.output,
                "attention.output.LayerNorm": layer.norm1,
                "intermediate.dense": layer.dense.hidden,
                "output.dense": layer.dense.output,
                "output.LayerNorm": layer.norm2,
            }.items()
        }
    return {f"{name}.{key}": tensor for name, ours in named.items() for key, tensor in ours.state_dict().items()}


def transformers_config(transformers: Any, **arguments: Any) -> Any:
    return transformers.BertConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=LENGTH,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        **arguments,
    )


def test_it_is_the_one_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    net = lively()
    twin = transformers.BertForMaskedLM(transformers_config(transformers)).eval()
    assert count(twin) == count(net)
    twin.bert.load_state_dict(transformers_state(net), strict=True)
    head = twin.cls.predictions
    head.transform.dense.load_state_dict(net.head.dense.state_dict())
    head.transform.LayerNorm.load_state_dict(net.head.norm.state_dict())
    with torch.no_grad():
        head.bias.copy_(net.head.bias)
    real = ~some_padding()
    expected = twin(tokens(), attention_mask=real.long(), token_type_ids=some_types()).logits
    torch.testing.assert_close(net(tokens(), some_types(), some_padding())[real], expected[real], rtol=1e-4, atol=1e-4)


def test_with_classes_it_is_the_one_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    net = lively(3, head="classes", vocabulary=VOCABULARY)
    twin = transformers.BertForSequenceClassification(transformers_config(transformers, num_labels=3)).eval()
    assert count(twin) == count(net)
    twin.bert.load_state_dict(transformers_state(net), strict=False)
    twin.bert.pooler.dense.load_state_dict(net.head.pooler.state_dict())
    twin.classifier.load_state_dict(net.head.output.state_dict())
    expected = twin(tokens(), attention_mask=(~some_padding()).long(), token_type_ids=some_types()).logits
    torch.testing.assert_close(net(tokens(), some_types(), some_padding()), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", ["layer", "rms", None])
def test_what_stands_at_padding_changes_nothing(norm: str | None) -> None:
    net, padding = lively(norm=norm), some_padding()
    other = torch.where(padding, tokens(seed=2), tokens())
    assert not torch.equal(other, tokens())
    assert torch.equal(net(other, padding_mask=padding)[~padding], net(tokens(), padding_mask=padding)[~padding])
    assert not torch.isclose(net(other)[~padding][:4], net(tokens())[~padding][:4]).all(-1).any()


def test_a_padding_number_is_a_mask_and_the_length_of_padding_changes_nothing() -> None:
    net, padding = lively(padding_id=0), some_padding()
    padded = tokens().masked_fill(padding, 0)
    outputs = net(padded)
    plain = lively()
    torch.testing.assert_close(outputs[~padding], plain(tokens(), padding_mask=padding)[~padding])
    torch.testing.assert_close(outputs[:1, :4], plain(tokens()[:1, :4]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(outputs[1:2, :7], plain(tokens()[1:2, :7]), rtol=1e-4, atol=1e-4)


def test_a_sample_of_nothing_but_padding_is_finite() -> None:
    net = lively(padding_id=0)
    outputs = net(torch.zeros(2, LENGTH, dtype=torch.long))
    assert outputs.isfinite().all()
    outputs.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters() if parameter.grad is not None)


def test_with_padding_it_is_compiled_and_exported() -> None:
    net = lively(padding_id=0)
    padded = tokens().masked_fill(some_padding(), 0)
    expected = net(padded)
    compiled: Any = torch.compile(net, backend="aot_eager")
    torch.testing.assert_close(compiled(padded), expected)
    samples = torch.export.Dim("samples", min=1, max=64)
    exported = torch.export.export(net, (padded,), dynamic_shapes=({0: samples},)).module()
    rows = torch.tensor([2, 0, 0, 1, 1])
    torch.testing.assert_close(exported(padded[rows]), expected[rows])


def test_each_place_sees_all_others() -> None:
    net = lively()
    embedded = net.encoder.tokens(tokens(samples=1)).detach().requires_grad_()
    net.encoder.tokens.forward = lambda _: embedded
    for logits in net(tokens(samples=1))[0]:
        (gradient,) = torch.autograd.grad(logits[0], embedded, retain_graph=True)
        assert gradient.abs().sum(-1).gt(0).all()


def test_without_types_all_are_the_first() -> None:
    net = lively()
    assert torch.equal(net(tokens()), net(tokens(), torch.zeros(3, LENGTH, dtype=torch.long)))
    assert not torch.allclose(net(tokens()), net(tokens(), some_types()))


def test_weights_start_as_said() -> None:
    torch.manual_seed(0)
    net = Bert((256,), 500, width=128, depth=2, heads=4)
    for name, parameter in net.named_parameters():
        if "norm" in name:
            assert (parameter == (1 if name.endswith("weight") else 0)).all()
        elif name.endswith("bias"):
            assert (parameter == 0).all()
        else:
            assert parameter.abs().max() <= 0.04
            # A normal distribution cut at twice its standard deviation keeps 0.8796 of it.
            assert parameter.std().item() == pytest.approx(0.8796 * 0.02, rel=0.1 if "types" in name else 0.03)


def test_small_first_embeddings_are_normalised_to_one_all_the_same() -> None:
    encoder: Any = tiny().encoder
    x = encoder.tokens(tokens()) + encoder.positions.weight + encoder.types.weight[0]
    variance = encoder.norm(x).var(-1, correction=0)
    torch.testing.assert_close(variance, torch.ones(3, LENGTH), rtol=0, atol=1e-4)


def test_branches_are_left_out_more_the_deeper() -> None:
    shares = [layer.p for layer in tiny(drop_path=0.4).modules() if isinstance(layer, DropPath)]
    assert shares == pytest.approx([0.1, 0.2, 0.3, 0.4])


def trained(net: Bert, batches: Any, steps: int) -> list[float]:
    """Losses of a training on batches of inputs, targets and (optional) places that count."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(steps):
        x, targets, counted = batches()
        loss = F.cross_entropy(net(x)[counted], targets[counted])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_it_learns_to_fill_in_what_is_masked() -> None:
    """Two tokens in turn; the places that are left tell what is masked (token 0)."""
    generator = torch.Generator().manual_seed(0)

    def batches() -> tuple[Tensor, Tensor, Tensor]:
        x = torch.randint(1, VOCABULARY, (64, 2), generator=generator).repeat(1, 5)[:, :LENGTH]
        masked = torch.rand(x.shape, generator=generator) < 0.3
        return x.masked_fill(masked, 0), x, masked

    losses = trained(tiny(width=32), batches, 200)
    assert losses[0] == pytest.approx(math.log(VOCABULARY), rel=0.1)
    assert sum(losses[-20:]) / 20 < 0.3


def test_it_learns_classes() -> None:
    """The class is the largest token of the sample."""
    generator = torch.Generator().manual_seed(0)

    def batches() -> tuple[Tensor, Tensor, slice]:
        x = torch.randint(VOCABULARY, (64, 4), generator=generator)
        return x, x.amax(1), slice(None)

    losses = trained(tiny(VOCABULARY, head="classes", vocabulary=VOCABULARY, width=32), batches, 200)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"head": "token"}, "did you mean tokens"),
        ({"head": "classes"}, "vocabulary: with the head 'classes' the number"),
        ({"head": "classes", "vocabulary": 0}, "vocabulary"),
        ({"vocabulary": 5}, "the output size, 11, not 5"),
        ({"heads": 3}, "do not divide"),
        ({"depth": 0}, "depth"),
        ({"types": 0}, "types"),
        ({"norm": "batch"}, "layer, rms or none"),
        ({"dropout": 1.0}, r"\[0, 1\)"),
    ],
)
def test_it_refuses_what_makes_no_sense(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny(**arguments)


def test_it_refuses_images_and_long_samples() -> None:
    with pytest.raises(UserError, match="takes token numbers"):
        Bert((1, 28, 28), 10)
    with pytest.raises(UserError, match="10 tokens are more than the net's 9 positions"):
        tiny()(tokens(length=10))
