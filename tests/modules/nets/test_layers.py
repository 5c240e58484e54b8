"""Activations and norms by name, against torch's functional forms."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.nets.layers import ACTIVATIONS, NORMS, activation, norm_layer

VECTORS, IMAGES = (6, 12), (6, 12, 5, 4)


def features(shape: tuple[int, ...]) -> Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 1


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "identity"])
def test_an_activation_is_torchs(name: str) -> None:
    functions: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": torch.sigmoid, "tanh": torch.tanh}
    function = functions.get(name) or getattr(F, name)
    x = features(VECTORS)
    torch.testing.assert_close(activation(name)(x), function(x))


def test_identity_changes_nothing() -> None:
    assert torch.equal(activation("identity")(features(VECTORS)), features(VECTORS))


EXPECTED: dict[str, dict[int, Callable[[Tensor, Tensor, Tensor | None], Tensor]]] = {
    "batch": {
        1: lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        2: lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
    },
    "layer": {
        1: lambda x, w, b: F.layer_norm(x, (12,), w, b),
        2: lambda x, w, b: (
            F.layer_norm(x, (12, 5, 4)) * w.reshape(12, 1, 1) + b.reshape(12, 1, 1)  # type: ignore[union-attr]
        ),
    },
    "group": {1: lambda x, w, b: F.group_norm(x, 4, w, b), 2: lambda x, w, b: F.group_norm(x, 4, w, b)},
    "instance": {2: lambda x, w, b: F.instance_norm(x, weight=w, bias=b)},
    "rms": {
        1: lambda x, w, _: F.rms_norm(x, (12,), w),
        2: lambda x, w, _: (
            torch.stack([F.rms_norm(row, (12,), w) for row in x.permute(2, 3, 0, 1).reshape(20, 6, 12)])
            .reshape(5, 4, 6, 12)
            .permute(2, 3, 0, 1)
        ),
    },
}


@pytest.mark.parametrize(("name", "dimensions"), [(name, d) for name, forms in EXPECTED.items() for d in forms])
def test_a_norm_is_torchs_function(name: str, dimensions: int) -> None:
    layer = norm_layer(name, 12, 1 if dimensions == 1 else 2)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    weight, bias = layer.weight, getattr(layer, "bias", None)
    x = features(VECTORS if dimensions == 1 else IMAGES)
    torch.testing.assert_close(layer(x), EXPECTED[name][dimensions](x, weight, bias))  # type: ignore[arg-type]


def test_every_norm_is_compared() -> None:
    assert set(EXPECTED) == set(NORMS)


def test_no_norm_changes_nothing() -> None:
    assert torch.equal(norm_layer(None, 12, 2)(features(IMAGES)), features(IMAGES))


@pytest.mark.parametrize(("width", "groups"), [(1, 1), (6, 2), (12, 4), (16, 8), (7, 1)])
def test_groups_divide_the_features(width: int, groups: int) -> None:
    layer = norm_layer("group", width, 2)
    assert isinstance(layer, nn.GroupNorm)
    assert layer.num_groups == groups


def test_instance_norm_of_vectors_is_refused() -> None:
    with pytest.raises(UserError, match="take layer or rms"):
        norm_layer("instance", 12, 1)


def test_unknown_names_answer_with_the_closest() -> None:
    with pytest.raises(UserError, match=r"no activation is called 'leakyrelu'; did you mean leaky_relu"):
        activation("leakyrelu")
    with pytest.raises(UserError, match=r"no norm is called 'bach'; did you mean batch"):
        norm_layer("bach", 12, 1)
