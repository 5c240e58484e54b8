"""The vision transformer, against timm's number and torch's own encoder layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from net_measures import count, losses_of_training, samples
from torch import nn

from trainoff.errors import UserError
from trainoff.modules.nets import VisionTransformer

TINY: dict[str, Any] = {"patch": 4, "width": 24, "depth": 2, "heads": 3, "hidden": 40}


@pytest.mark.parametrize(
    ("width", "heads", "published"), [(192, 3, 5_717_416), (384, 6, 22_050_664), (768, 12, 86_567_656)]
)
def test_parameters_are_as_many_as_timms(width: int, heads: int, published: int) -> None:
    """``vit_tiny_patch16_224``, ``vit_small_patch16_224`` and ``vit_base_patch16_224``."""
    with torch.device("meta"):
        assert count(VisionTransformer((3, 224, 224), 1000, width=width, heads=heads)) == published


def encoder_of(net: Any) -> nn.TransformerEncoder:
    """torch's encoder with the same weights."""
    layer = nn.TransformerEncoderLayer(24, 3, 40, 0.0, "gelu", batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(24), enable_nested_tensor=False)
    for number, theirs in enumerate(encoder.layers):
        attention, dense = net.blocks[2 * number], net.blocks[2 * number + 1]
        state = {
            "self_attn.out_proj": attention.attention.output,
            "linear1": dense.dense1,
            "linear2": dense.dense2,
            "norm1": attention.norm,
            "norm2": dense.norm,
        }
        parts = ("weight", "bias")
        weights = {f"{name}.{part}": getattr(ours, part) for name, ours in state.items() for part in parts}
        projections = (attention.attention.query, attention.attention.key, attention.attention.value)
        for part in parts:
            weights[f"self_attn.in_proj_{part}"] = torch.cat([getattr(ours, part) for ours in projections])
        theirs.load_state_dict(weights)
    encoder.norm.load_state_dict(net.norm.state_dict())  # type: ignore[union-attr]
    return encoder.eval()


def test_a_net_is_torchs_encoder_on_patches() -> None:
    torch.manual_seed(0)
    net: Any = VisionTransformer((3, 12, 8), 5, **TINY).eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = samples((3, 12, 8))
    patches = x.unfold(2, 4, 4).unfold(3, 4, 4)  # (batch, channels, rows, columns, 4, 4)
    flat = patches.permute(0, 2, 3, 1, 4, 5).reshape(4, 6, 48)
    tokens = flat @ net.patches.weight.reshape(24, 48).T + net.patches.bias
    tokens = torch.cat([net.class_token.expand(4, 1, 24), tokens], 1) + net.positions.weight
    expected = net.output(encoder_of(net)(tokens)[:, 0])
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-4)


def test_a_tiny_net_learns_by_heart() -> None:
    torch.manual_seed(0)
    losses = losses_of_training(VisionTransformer((1, 16, 16), 10, **TINY), (1, 16, 16), steps=40)
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        ((3, 30, 32), {}, "a patch of 16 pixels does not divide images of 30 x 32"),
        ((3, 32, 32), {"heads": 5}, "heads"),
        ((3, 32, 32), {"norm": "batch"}, "layer, rms or none"),
        ((3, 32, 32), {"depth": 0}, "depth"),
    ],
)
def test_what_makes_no_sense_is_refused(shape: tuple[int, ...], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        VisionTransformer(shape, 10, **arguments)
