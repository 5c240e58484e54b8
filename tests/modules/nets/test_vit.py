"""The vision transformer against torch's own encoder layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from net_losses import losses_of
from torch import nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.initialisation_functions import initialise
from trainoff.modules.nets import VisionTransformer
from trainoff.modules.parameter_groups import undecayed_names

TINY: dict[str, Any] = {"patch": 4, "width": 16, "depth": 3, "heads": 2, "hidden": 24}


def test_parameters_are_as_many_as_published() -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in VisionTransformer((3, 224, 224), 1000).parameters()) == 5_717_416


def test_it_is_torch_s_encoder_with_the_same_weights() -> None:
    torch.manual_seed(0)
    net: Any = VisionTransformer((3, 12, 8), 5, **TINY).eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    layers = []
    for attention, dense in zip(net.blocks[::2], net.blocks[1::2], strict=True):
        layer: Any = nn.TransformerEncoderLayer(16, 2, 24, activation="gelu", batch_first=True, norm_first=True)
        layer.self_attn.in_proj_weight.data = attention.attention.queries_keys_values.weight.data
        layer.self_attn.in_proj_bias.data = attention.attention.queries_keys_values.bias.data
        layer.self_attn.out_proj.load_state_dict(attention.attention.output.state_dict())
        layer.norm1.load_state_dict(attention.norm.state_dict())
        layer.norm2.load_state_dict(dense.norm.state_dict())
        layer.linear1.load_state_dict(dense.dense1.state_dict())
        layer.linear2.load_state_dict(dense.dense2.state_dict())
        layers.append(layer.eval())
    x = torch.randn(2, 3, 12, 8)
    # Patches cut by hand: row after row, each as (channels, 4, 4).
    patches = [x[:, :, 4 * r : 4 * r + 4, 4 * c : 4 * c + 4].flatten(1) for r in range(3) for c in range(2)]
    tokens = torch.stack(patches, 1) @ net.patches.weight.flatten(1).T + net.patches.bias
    tokens = torch.cat([net.class_token.expand(2, 1, 16), tokens], 1) + net.positions.weight
    for layer in layers:
        tokens = layer(tokens)
    expected = F.layer_norm(tokens[:, 0], (16,), net.norm.weight, net.norm.bias) @ net.output.weight.T + net.output.bias
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-4)


def test_it_is_timm_s_vit_tiny_with_the_same_weights() -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    other = timm.create_model("vit_tiny_patch16_224").eval()
    net: Any = VisionTransformer((3, 224, 224), 1000).eval()
    with torch.no_grad():
        for ours, theirs in _pairs_with_timm(net, other):
            assert ours.numel() == theirs.numel()
            ours.copy_(theirs.view_as(ours))
        for layer in net.modules():
            if isinstance(layer, nn.LayerNorm):
                layer.eps = 1e-6
        x = torch.randn(2, 3, 224, 224)
        torch.testing.assert_close(net(x), other(x), rtol=1e-3, atol=1e-4)


def _pairs_with_timm(net: Any, other: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    modules = [(net.patches, other.patch_embed.proj), (net.norm, other.norm), (net.output, other.head)]
    for attention, dense, block in zip(net.blocks[::2], net.blocks[1::2], other.blocks, strict=True):
        modules += [
            (attention.norm, block.norm1),
            (attention.attention.queries_keys_values, block.attn.qkv),
            (attention.attention.output, block.attn.proj),
            (dense.norm, block.norm2),
            (dense.dense1, block.mlp.fc1),
            (dense.dense2, block.mlp.fc2),
        ]
    pairs = [(net.class_token, other.cls_token), (net.positions.weight, other.pos_embed)]
    for ours, theirs in modules:
        pairs += [(ours.weight, theirs.weight), (ours.bias, theirs.bias)]
    return pairs


def test_attention_is_torch_s_function(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *given, **named: (calls.append(given), real(*given, **named))[1]
    )
    VisionTransformer((1, 8, 8), 5, **TINY)(torch.randn(2, 1, 8, 8))
    assert [tuple(part.shape for part in given) for given in calls] == [((2, 2, 5, 8),) * 3] * 3


def test_every_pixel_changes_the_output() -> None:
    torch.manual_seed(0)
    net = VisionTransformer((2, 12, 8), 5, **TINY)
    x = torch.randn(1, 2, 12, 8, requires_grad=True)
    net(x).square().sum().backward()
    assert x.grad is not None
    assert x.grad.ne(0).all()


def test_zero_residual_starts_as_the_class_token_alone() -> None:
    net: Any = VisionTransformer((1, 8, 8), 5, **TINY)
    initialise(net, {"name": "zero_residual"})
    first = net.class_token + net.positions.weight[0]
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(net(x), net.output(net.norm(first)).expand(2, 5))
    net(x).square().sum().backward()
    assert all(block.residual_branch()[-1].weight.grad.abs().sum() > 0 for block in net.blocks)


def test_positions_and_class_token_are_spared_weight_decay() -> None:
    assert {"positions.weight", "class_token"} <= undecayed_names(VisionTransformer((1, 8, 8), 5, **TINY))


@pytest.mark.parametrize("norm", ["layer", "rms", None])
def test_it_trains(norm: str | None) -> None:
    torch.manual_seed(0)
    net = VisionTransformer((1, 16, 16), 10, norm=norm, **TINY)
    losses = losses_of(net, torch.randn(16, 1, 16, 16), torch.arange(16) % 10)
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "patch: a patch of 16 pixels does not divide images of 28 x 28"),
        ({"patch": 0}, "patch: .*positive"),
        ({"patch": 4, "heads": 5}, "heads: .*192 is none of 5"),
        ({"patch": 4, "norm": "batch"}, "norm: .*layer or rms"),
        ({"patch": 4, "depth": 0}, "depth"),
        ({"patch": 4, "activation": "gellu"}, "did you mean gelu"),
    ],
)
def test_it_refuses_what_makes_no_sense(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        VisionTransformer((1, 28, 28), 10, **arguments)
