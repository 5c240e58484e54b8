"""Activations and norms by name, against torch's functional forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from users_project import make_trainer

from trainoff.datamodules import Digits
from trainoff.errors import UserError
from trainoff.modules import Classifier, Recipe
from trainoff.modules.nets.ghost_batch_norm import GhostBatchNorm2d
from trainoff.modules.nets.layers import ACTIVATIONS, activation, norm_layer
from trainoff.modules.nets.norms import NORMS

VECTORS, IMAGES = (6, 12), (6, 12, 5, 4)


def features(shape: tuple[int, ...]) -> Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 1


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "identity"])
def test_an_activation_is_torchs(name: str) -> None:
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "gelu_tanh": lambda x: x / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
    }
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
    "ghost_batch": {  # six samples are fewer than the part's size, so that there is one part
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
    torch.testing.assert_close(layer(x), EXPECTED[name][dimensions](x, weight, bias), rtol=0, atol=1e-6)  # type: ignore[arg-type]


def test_every_norm_is_compared() -> None:
    assert set(EXPECTED) == set(NORMS.names())


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


@pytest.mark.parametrize("dimensions", [1, 2])
@given(samples=st.integers(4, 60), size=st.integers(2, 20), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_ghost_batch_norm_is_torchs_function_on_each_part(
    dimensions: Literal[1, 2], samples: int, size: int, seed: int
) -> None:
    """Parts of ``size`` samples or more, none left out; running statistics by algorithm 1 of Hoffer et al. 2017."""
    x = 3 * torch.randn(
        samples, 4, *([] if dimensions == 1 else [2, 3]), generator=torch.Generator().manual_seed(seed)
    )
    layer: Any = norm_layer({"name": "ghost_batch", "size": size}, 4, dimensions)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    parts = list(np.array_split(x.numpy(), max(1, samples // size)))
    assert len(parts) == 1 or min(map(len, parts)) >= size
    mean, variance = torch.zeros(4), torch.ones(4)
    expected = []
    for part in map(torch.from_numpy, parts):
        expected.append(F.batch_norm(part, None, None, layer.weight, layer.bias, training=True))
        over = [0] if dimensions == 1 else [0, 2, 3]
        mean = 0.9 * mean + 0.1 * part.mean(over)
        variance = 0.9 * variance + 0.1 * part.var(over, unbiased=True)
    torch.testing.assert_close(layer(x), torch.cat(expected), rtol=0, atol=1e-6)
    torch.testing.assert_close(layer.running_mean, mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(layer.running_var, variance, rtol=1e-5, atol=1e-6)
    evaluated = F.batch_norm(x, mean, variance, layer.weight, layer.bias)
    torch.testing.assert_close(layer.eval()(x), evaluated, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("norm", "message"),
    [
        ({"name": "ghost_batch", "size": 1}, "norm.size: a part has at least 2 samples"),
        ({"name": "ghost_batch", "sizes": 3}, "'ghost_batch' takes no 'sizes'; it takes size"),
        ({"name": "batch", "size": 3}, "'batch' takes no arguments, such as size"),
        ({"size": 3}, "no norm is called 'None'"),
    ],
)
def test_wrong_arguments_of_a_norm_are_refused(norm: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        norm_layer(norm, 12, 1)


def test_a_net_takes_a_norm_with_arguments_and_reloads_alone(tmp_path: Path) -> None:
    """Through a Trainer, with a batch that the size does not divide; and in parts of a recipe's choosing."""
    norm = {"name": "ghost_batch", "size": 10}
    module = Classifier({"name": "resnet20", "depth": 8, "width": 4, "norm": norm}, Recipe("sgd", batch=128))
    trainer = make_trainer(max_steps=2)
    trainer.fit(module, datamodule=Digits())
    trainer.save_checkpoint(tmp_path / "ghost.ckpt")
    again = Classifier.load_from_checkpoint(tmp_path / "ghost.ckpt", weights_only=True)
    ghosts = [part for part in again.modules() if isinstance(part, GhostBatchNorm2d)]
    assert len(ghosts) == 7
    assert {ghost.size for ghost in ghosts} == {10}
    assert int(ghosts[0].num_batches_tracked) == 2 * 12  # parts
