"""All-CNN-C, against the paper's tables and a naive computation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from net_measures import count, follow, losses_of_training, samples
from torch import nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.nets import AllCNNC


@pytest.mark.parametrize("classes", [10, 100])
def test_parameters_are_those_of_the_papers_table(classes: int) -> None:
    """Table 1, model C, with the strided convolutions of table 2; 1.4 M in table 3."""
    layers = [(3, 3, 96), (3, 96, 96), (3, 96, 96), (3, 96, 192), (3, 192, 192), (3, 192, 192), (3, 192, 192)]
    layers += [(1, 192, 192), (1, 192, classes)]
    expected = sum(side**2 * inputs * outputs + outputs for side, inputs, outputs in layers)
    with torch.device("meta"):
        assert count(AllCNNC((3, 32, 32), classes)) == expected == {10: 1_369_738, 100: 1_387_108}[classes]


def test_maps_have_the_sizes_of_the_table() -> None:
    with torch.device("meta"):
        shapes = follow(AllCNNC((3, 32, 32), 10).layers, torch.empty(1, 3, 32, 32))
    sizes = [shape for number, shape in enumerate(shapes) if number not in (0, 4, 8)]  # without dropout
    assert sizes == [
        (96, 32, 32), (96, 32, 32), (96, 16, 16), (192, 16, 16), (192, 16, 16), (192, 8, 8), (192, 6, 6), (192, 6, 6),
        (10, 6, 6), (10, 1, 1), (10,),
    ]  # fmt: skip


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (2, 9, 12)])
def test_outputs_are_those_of_a_naive_computation(shape: tuple[int, int, int]) -> None:
    net = AllCNNC(shape, 10, width=4).eval()
    weights, biases = list(net.parameters())[::2], list(net.parameters())[1::2]
    steps = [(1, 1), (1, 1), (2, 1), (1, 1), (1, 1), (2, 1), (1, 0), (1, 0), (1, 0)]
    x = expected = samples(shape)
    for weight, bias, (stride, padding) in zip(weights, biases, steps, strict=True):
        expected = F.conv2d(expected, weight, bias, stride, padding).clamp(min=0)
    torch.testing.assert_close(net(x), expected.flatten(2).mean(2))


def test_dropout_is_the_papers() -> None:
    net = AllCNNC((3, 32, 32), 10, width=2)
    assert [layer.p for layer in net.layers if isinstance(layer, nn.Dropout)] == [0.2, 0.5, 0.5]


def test_it_starts_as_deepobs_does() -> None:
    torch.manual_seed(0)
    net: Any = AllCNNC((3, 32, 32), 10)
    for name, parameter in net.named_parameters():
        assert not name.endswith("bias") or (parameter == 0.1).all()
    weight = net.layers[5][0].weight
    assert weight.var().item() == pytest.approx(2 / (9 * 96 + 9 * 192), rel=0.02)


@pytest.mark.parametrize("norm", [None, "batch"])
def test_it_trains(norm: str | None) -> None:
    torch.manual_seed(0)
    net = AllCNNC((3, 16, 16), 10, width=8, norm=norm, dropout=0, input_dropout=0)
    losses = losses_of_training(net, (3, 16, 16))
    assert losses[-1] < 0.7 * losses[0]


def test_it_takes_9_pixels_and_no_fewer() -> None:
    assert AllCNNC((1, 9, 9), 10, width=2)(samples((1, 9, 9))).shape == (4, 10)
    with pytest.raises(UserError, match=r"from 9 x 9, not 8 x 8$"):
        AllCNNC((1, 8, 8), 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"width": 0}, "width"), ({"input_dropout": 1.0}, r"\[0, 1\)"), ({"norm": "bach"}, "batch")],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        AllCNNC((3, 32, 32), 10, **arguments)
