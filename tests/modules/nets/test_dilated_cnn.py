"""Dilated convolutions in two dimensions, of fixed and of adaptive dilation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from net_measures import count, losses_of_training, samples
from torch import Tensor, nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.nets import AdaptiveDilatedCNN, DilatedCNN
from trainoff.modules.nets.adaptive_dilated_cnn import DeformableConv2d


@pytest.mark.parametrize("dilations", [(1,), (1, 2), (1, 1, 2, 4), (3, 1)])
@pytest.mark.parametrize("kind", [DilatedCNN, AdaptiveDilatedCNN])
def test_the_view_measured_from_gradients_is_the_formulas(kind: Any, dilations: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    side = 2 * sum(dilations) + 9
    net = kind((2, side, side), 3, dilations=dilations, width=3, activation="tanh", norm=None).double()
    x = samples((2, side, side), 1).double().requires_grad_()
    middle = side // 2
    net.context(x)[:, :, middle, middle].sum().backward()
    for dimension in (2, 3):
        rows = x.grad.abs().sum([d for d in range(4) if d != dimension]).nonzero().flatten()  # type: ignore[union-attr]
        assert int(rows.max()) - int(rows.min()) + 1 == 1 + 2 * sum(dilations)
        assert int(rows.max()) + int(rows.min()) == 2 * middle


def test_the_defaults_see_67_pixels() -> None:
    """Yu & Koltun 2016, table 1."""
    net: Any = DilatedCNN((3, 32, 32), 10)
    dilations = [
        layer.dilation[0] for layer in net.context if isinstance(layer, nn.Conv2d) and layer.padding != (0, 0)
    ]
    assert dilations == [1, 1, 2, 4, 8, 16, 1]
    assert 1 + 2 * sum(dilations) == 67


def naive(x: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
    """A dilated 3 x 3 convolution as nine shifted products."""
    height, width = x.shape[2:]
    padded = F.pad(x, [dilation] * 4)
    result = bias[:, None, None].expand(len(x), -1, height, width)
    for row in range(3):
        for column in range(3):
            shifted = padded[:, :, row * dilation : row * dilation + height, column * dilation :][:, :, :, :width]
            result = result + torch.einsum("oi,bihw->bohw", weight[:, :, row, column], shifted)
    return result


def test_a_net_is_the_naive_computation() -> None:
    torch.manual_seed(0)
    net: Any = DilatedCNN((3, 11, 9), 5, dilations=(1, 3, 2), width=4, norm=None)
    x = samples((3, 11, 9))
    features = x
    for layer, dilation in zip((net.context[0], net.context[3], net.context[6]), (1, 3, 2), strict=True):
        features = F.relu(naive(features, layer.weight, layer.bias, dilation))
    last = net.context[-1]
    mean = features.mean((2, 3)) @ last.weight[:, :, 0, 0].T + last.bias
    torch.testing.assert_close(net(x), net.output(mean), rtol=1e-4, atol=1e-5)


def test_parameters_are_those_of_the_formula() -> None:
    """Without a norm; an adaptive convolution has eighteen offsets a position beside it."""
    arguments: dict[str, Any] = {"dilations": (1, 2, 4), "width": 8, "norm": None}
    plain = (9 * 3 * 8 + 8) + 2 * (9 * 64 + 8) + (64 + 8) + (8 * 10 + 10)
    assert count(DilatedCNN((3, 32, 32), 10, **arguments)) == plain
    assert count(AdaptiveDilatedCNN((3, 32, 32), 10, **arguments)) == plain + 2 * (9 * 8 * 18 + 18)


def deform(layer: DeformableConv2d, sample: Tensor) -> Tensor:
    """Dai et al. 2017, eq. 2 to 4, position by position: bilinear interpolation, zero outside."""
    channels, height, width = sample.shape
    offsets = layer.offsets(sample[None])[0].reshape(9, 2, height, width)

    def pixel(row: float, column: float) -> Tensor:
        total = torch.zeros(channels)
        for r in (int(row // 1), int(row // 1) + 1):
            for c in (int(column // 1), int(column // 1) + 1):
                share = max(0.0, 1 - abs(row - r)) * max(0.0, 1 - abs(column - c))
                if share and 0 <= r < height and 0 <= c < width:
                    total = total + share * sample[:, r, c]
        return total

    result = torch.zeros(layer.out_channels, height, width)
    for h in range(height):
        for w in range(width):
            for n in range(9):
                row = h + (n // 3 - 1) * layer.dilation[0] + float(offsets[n, 0, h, w])
                column = w + (n % 3 - 1) * layer.dilation[0] + float(offsets[n, 1, h, w])
                result[:, h, w] += layer.weight[:, :, n // 3, n % 3] @ pixel(row, column)
    return result if layer.bias is None else result + layer.bias[:, None, None]


@pytest.mark.parametrize("dilation", [1, 2])
@torch.no_grad()
def test_a_deformable_convolution_is_the_papers_sum(dilation: int) -> None:
    torch.manual_seed(0)
    layer = DeformableConv2d(2, 3, dilation, bias=True)
    nn.init.normal_(layer.offsets.weight, std=0.3)
    nn.init.normal_(layer.offsets.bias, std=0.5)  # type: ignore[arg-type]
    x = samples((2, 6, 5), 2)
    expected = torch.stack([deform(layer, sample) for sample in x])
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("dilation", "other"), [(2, 1), (1, 3), (2, 4)])
def test_offsets_of_another_dilation_make_that_dilation(dilation: int, other: int) -> None:
    torch.manual_seed(0)
    layer = DeformableConv2d(2, 3, dilation, bias=True)
    places = torch.tensor([(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)], dtype=torch.float32)
    with torch.no_grad():
        layer.offsets.bias.copy_((other - dilation) * places.flatten())  # type: ignore[union-attr]
    x = samples((2, 9, 8))
    expected = F.conv2d(x, layer.weight, layer.bias, padding=other, dilation=other)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-4)


def test_an_adaptive_net_starts_as_the_fixed_one() -> None:
    nets = []
    for kind in (DilatedCNN, AdaptiveDilatedCNN):
        torch.manual_seed(0)
        nets.append(kind((3, 16, 16), 10, dilations=(1, 2, 4), width=4).eval())
    nets[1].load_state_dict(nets[0].state_dict(), strict=False)
    torch.testing.assert_close(nets[1](samples((3, 16, 16))), nets[0](samples((3, 16, 16))), rtol=1e-4, atol=1e-5)


def test_offsets_learn() -> None:
    torch.manual_seed(0)
    net: Any = AdaptiveDilatedCNN((1, 12, 12), 10, dilations=(1, 2), width=8)
    losses_of_training(net, (1, 12, 12), steps=5)
    (adaptive,) = [layer for layer in net.modules() if isinstance(layer, DeformableConv2d)]
    assert adaptive.offsets.weight.abs().max() > 0


@pytest.mark.parametrize("kind", [DilatedCNN, AdaptiveDilatedCNN])
def test_a_tiny_net_learns_by_heart(kind: Any) -> None:
    torch.manual_seed(0)
    losses = losses_of_training(kind((1, 12, 12), 10, dilations=(1, 2), width=12), (1, 12, 12), steps=60, lr=0.02)
    assert losses[-1] < 0.3 * losses[0]


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(UserError, match="dilations"):
        DilatedCNN((3, 32, 32), 10, dilations=(0,))
