"""Every net of the registry, and what each promises about itself."""

from __future__ import annotations

import copy
import itertools
import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules import nets
from trainoff.modules.nets import MLP, NETS, CellNet, CifarResNet, DeepObs2c2d, LeNet5, Linear
from trainoff.modules.nets.resnet_cifar import shortcut

SHAPE = (1, 28, 28)
NAMES = [entry.name for entry in NETS if not entry.package]
IMAGE_NETS = [entry.name for entry in NETS if entry.domain in ("any", "images") and not entry.package]
WITHOUT_DROPOUT = {"linear"}


def build(name: str, shape: tuple[int, ...] = SHAPE, **arguments: Any) -> Any:
    """The tiny variant, which one core bears; the full sizes are built by the tests of parameter counts."""
    torch.manual_seed(0)
    return NETS[name].load()(input_shape=shape, output_size=10, **{**NETS[name].tiny, **arguments})


def batch(shape: tuple[int, ...] = SHAPE, samples: int = 4) -> Tensor:
    return torch.randn(samples, *shape, generator=torch.Generator().manual_seed(1))


def samples_for(name: str, samples: int = 4) -> tuple[Tensor, ...]:
    """What the tiny variant of a net is called with: numbers, token numbers, or two series of those."""
    generator = torch.Generator().manual_seed(1)
    entry = NETS[name]
    if entry.domain in ("tokens", "token pairs"):
        count = 2 if entry.domain == "token pairs" else 1
        return tuple(torch.randint(3, 10, (samples, *entry.tiny_shape), generator=generator) for _ in range(count))
    return (torch.randn(samples, *entry.tiny_shape, generator=generator),)


def tiny(name: str, **arguments: Any) -> Any:
    return build(name, NETS[name].tiny_shape, **arguments)


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_listing_needs_no_torch() -> None:
    program = "import sys; from trainoff.modules.nets import NETS; print(len(NETS)); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE)


def test_every_public_name_is_there_and_no_other() -> None:
    assert all(hasattr(nets, name) for name in nets.__all__)
    assert set(nets.__all__) <= set(dir(nets))
    with pytest.raises(AttributeError, match="ResNet99"):
        _ = nets.ResNet99


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_says_what_it_is(name: str) -> None:
    entry = NETS[name]
    assert entry.summary
    assert entry.paper or name == "linear"


# Parameter counts


@pytest.mark.parametrize(
    ("net", "shape", "published"),
    [
        (LeNet5, (1, 32, 32), 61_706),
        (LeNet5, (1, 28, 28), 61_706),
        (DeepObs2c2d, (1, 28, 28), 3_274_634),
        (CifarResNet, (3, 32, 32), 269_722),
        (CifarResNet, (1, 28, 28), 269_434),
        (MLP, (1, 28, 28), 118_282),
        (Linear, (1, 28, 28), 7_850),
    ],
)
def test_parameters_are_as_many_as_published(net: Any, shape: tuple[int, ...], published: int) -> None:
    assert count(net(shape, 10)) == published


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4)])
@pytest.mark.parametrize("hidden", [(), (5,), (6, 7, 8)])
def test_mlp_has_the_parameters_of_its_formula(shape: tuple[int, ...], hidden: tuple[int, ...]) -> None:
    widths = [math.prod(shape), *hidden, 3]
    affine = sum(a * b + b for a, b in itertools.pairwise(widths))
    assert count(MLP(shape, 3, hidden=hidden)) == affine
    assert count(MLP(shape, 3, hidden=hidden, norm="batch")) == affine + 2 * sum(hidden)
    assert count(MLP(shape, 3, hidden=hidden, norm="rms")) == affine + sum(hidden)


@pytest.mark.parametrize("depth", [8, 20, 32, 56])
@pytest.mark.parametrize("width", [4, 16])
def test_resnet_has_the_parameters_of_its_formula(depth: int, width: int) -> None:
    n = (depth - 2) // 6
    stages = [width, 2 * width, 4 * width]
    convolutions = 27 * width
    for before, channels in zip([width, *stages], stages, strict=False):
        convolutions += 9 * (before * channels + (2 * n - 1) * channels**2)
    scales = 2 * (width + 2 * n * sum(stages))
    assert count(CifarResNet((3, 32, 32), 10, depth=depth, width=width)) == (
        convolutions + scales + 10 * 4 * width + 10
    )


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_resnets_agree_with_table_6_of_the_paper(depth: int, millions: float) -> None:
    digits = 1 if depth == 110 else 2
    with torch.device("meta"):
        assert round(count(CifarResNet((3, 32, 32), 10, depth=depth)) / 1e6, digits) == millions


# What every net does


@pytest.mark.parametrize("name", IMAGE_NETS)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_outputs_have_the_shape(name: str, shape: tuple[int, ...]) -> None:
    assert build(name, shape)(batch(shape)).shape == (4, 10)


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_reaches_every_parameter(name: str) -> None:
    net = tiny(name)
    outputs = net(*samples_for(name))
    (outputs * torch.randn(outputs.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    for parameter_name, parameter in net.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("name", NAMES)
def test_samples_do_not_see_each_other_in_eval_mode(name: str) -> None:
    net = tiny(name).eval()
    x = samples_for(name)
    alone = torch.cat([net(*(part[n : n + 1] for part in x)) for n in range(4)])
    torch.testing.assert_close(net(*x), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_eval_mode_is_deterministic(name: str) -> None:
    arguments: dict[str, Any] = {} if name in WITHOUT_DROPOUT else {"dropout": 0.5}
    net = tiny(name, **arguments)
    x = samples_for(name)
    if name not in WITHOUT_DROPOUT:
        assert not torch.equal(net(*x), net(*x))
    net.eval()
    assert torch.equal(net(*x), net(*x))


@pytest.mark.parametrize("name", NAMES)
def test_a_compiled_net_gives_the_same(name: str) -> None:
    net = tiny(name).eval()
    compiled: Any = torch.compile(net, backend="aot_eager")
    x = samples_for(name)
    torch.testing.assert_close(compiled(*x), net(*x))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet20", "mlp"])  # with convolutions and without
def test_inductor_gives_the_same(name: str) -> None:
    net = tiny(name).eval()
    compiled: Any = torch.compile(net, backend="inductor")
    x = samples_for(name)
    torch.testing.assert_close(compiled(*x), net(*x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_an_exported_net_gives_the_same(name: str) -> None:
    net = tiny(name).eval()
    x = samples_for(name)
    samples = torch.export.Dim("samples", min=1, max=64)
    exported = torch.export.export(net, x, dynamic_shapes=tuple({0: samples} for _ in x)).module()
    for size in (4, 7):
        x = samples_for(name, size)
        torch.testing.assert_close(exported(*x), net(*x))


@pytest.mark.parametrize("name", NAMES)
def test_a_state_dict_makes_another_net_the_same(name: str) -> None:
    net, other = tiny(name), tiny(name)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    x = samples_for(name)
    net(*x)  # moves the running statistics of a batch norm
    other.load_state_dict(copy.deepcopy(net.state_dict()))
    assert torch.equal(net.eval()(*x), other.eval()(*x))


@pytest.mark.parametrize("name", NAMES)
def test_bf16_is_near_float32(name: str) -> None:
    net = tiny(name).eval()
    x = samples_for(name)
    expected = net(*x)
    outputs = net.to(torch.bfloat16)(*(part.to(torch.bfloat16) if part.is_floating_point() else part for part in x))
    assert outputs.dtype == torch.bfloat16
    # bf16 keeps 8 bits: 0.4 % a rounding, in about ten layers.
    assert (outputs.float() - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("name", NAMES)
def test_a_dropout_place_exists_and_acts_when_it_is_set(name: str) -> None:
    net = tiny(name, **({} if name in WITHOUT_DROPOUT else {"dropout": 0.0}))
    places = [layer for layer in net.modules() if isinstance(layer, nn.Dropout)]
    assert all(place.p == 0 for place in places)
    if name in WITHOUT_DROPOUT:
        assert not places
        return
    x = samples_for(name)
    assert torch.equal(net(*x), net(*x))
    places[-1].p = 0.5
    assert not torch.equal(net(*x), net(*x))


@pytest.mark.parametrize("name", [entry.name for entry in NETS if entry.domain == "images" and not entry.package])
def test_channels_last_gives_the_same(name: str) -> None:
    net = tiny(name).eval()
    (x,) = samples_for(name)
    expected = net(x)
    outputs = net.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [entry.name for entry in NETS if entry.domain == "images" and not entry.package])
def test_nets_for_images_refuse_other_shapes(name: str) -> None:
    with pytest.raises(UserError, match="takes images"):
        build(name, (64,))


# Each net for itself


def test_linear_is_the_affine_map() -> None:
    net = Linear((2, 3), 4)
    x = batch((2, 3))
    torch.testing.assert_close(net(x), x.reshape(4, 6) @ net.output.weight.T + net.output.bias)


def test_mlp_is_its_formula() -> None:
    net = MLP((2, 3), 4, hidden=(5, 6), activation="tanh")
    w1, b1, w2, b2, w3, b3 = net.parameters()
    x = batch((2, 3)).reshape(4, 6)
    expected = torch.tanh(torch.tanh(x @ w1.T + b1) @ w2.T + b2) @ w3.T + b3
    torch.testing.assert_close(net(batch((2, 3))), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden": 128}, "hidden: 128 is not a list"),
        ({"hidden": [0]}, "positive"),
        ({"hidden": [1.5]}, "positive"),
        ({"activation": "rellu"}, "did you mean relu"),
        ({"norm": "bath"}, "did you mean batch"),
        ({"dropout": 1.0}, r"\[0, 1\)"),
    ],
)
def test_mlp_refuses_what_makes_no_sense(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        MLP((4,), 2, **arguments)


def test_lenet5_sees_28_pixels_as_32_with_a_border() -> None:
    small, large = LeNet5((1, 28, 28), 10), LeNet5((1, 32, 32), 10)
    large.load_state_dict(small.state_dict())
    x = batch()
    torch.testing.assert_close(small(x), large(F.pad(x, (2, 2, 2, 2))))


def test_lenet5_takes_12_pixels_and_no_fewer() -> None:
    assert LeNet5((1, 12, 12), 10)(batch((1, 12, 12))).shape == (4, 10)
    with pytest.raises(UserError, match="from 12 x 12"):
        LeNet5((1, 8, 8), 10)


def test_2c2d_starts_as_deepobs_does() -> None:
    torch.manual_seed(0)
    net: Any = DeepObs2c2d(SHAPE, 10)
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0.05).all()
        else:
            assert parameter.abs().max() <= 0.1
    weights = net.dense[1].weight
    # A normal distribution cut at twice its standard deviation keeps 0.8796 of it.
    assert weights.std().item() == pytest.approx(0.8796 * 0.05, rel=0.005)
    assert weights.mean().item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("side", [27, 28, 29, 30])
def test_2c2d_pools_odd_sides_as_tensorflow_does(side: int) -> None:
    net = build("2c2d", (1, side, side)).eval()
    x = batch((1, side, side))
    expected = x
    for convolution in (net.convolutions[0], net.convolutions[3]):
        expected = F.relu(F.conv2d(expected, convolution.weight, convolution.bias, padding=2))
        odd = expected.shape[-1] % 2
        # TensorFlow's "same" adds what is missing at the end, and it never is the maximum.
        expected = F.max_pool2d(F.pad(expected, (0, odd, 0, odd), value=-math.inf), 2)
    torch.testing.assert_close(net.convolutions(x), expected.flatten(1))
    assert net(x).shape == (4, 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"channels": (1,)}, "2 widths"), ({"dense": 0}, "dense"), ({"channels": 3}, "channels")],
)
def test_2c2d_refuses_what_makes_no_sense(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DeepObs2c2d(SHAPE, 10, **arguments)


@pytest.mark.parametrize("side", [7, 8])
@pytest.mark.parametrize(("channels", "stride"), [(3, 1), (3, 2), (8, 2)])
def test_option_a_shortcut_is_the_naive_one(side: int, channels: int, stride: int) -> None:
    x = batch((3, side, side), samples=2)
    half = -(-side // stride)
    expected = torch.zeros(2, channels, half, half)
    for row in range(half):
        for column in range(half):
            expected[:, :3, row, column] = x[:, :, stride * row, stride * column]
    assert torch.equal(shortcut(x, channels, stride), expected)


def test_resnet_without_residuals_is_its_stem_and_shortcuts() -> None:
    net: Any = CifarResNet((3, 8, 8), 10, depth=8, width=4).eval()
    for block in net.blocks:
        nn.init.zeros_(block.norm2.weight)
    x = batch((3, 8, 8))
    stem = net.stem(x)
    features = F.pad(stem[:, :, ::4, ::4].mean((2, 3)), (0, 12))
    torch.testing.assert_close(net(x), net.output(features))


@pytest.mark.parametrize("norm", [None, "batch", "layer", "group", "instance", "rms"])
def test_resnet_trains_with_every_norm(norm: str | None) -> None:
    net = build("resnet20", (3, 16, 16), norm=norm)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    x, classes = batch((3, 16, 16), samples=16), torch.arange(16) % 10
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), classes)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_resnet_starts_as_he_et_al_say() -> None:
    torch.manual_seed(0)
    net: Any = CifarResNet((3, 32, 32), 10)
    weight = net.blocks[-1].convolution2.weight
    assert weight.var().item() == pytest.approx(2 / (9 * 64), rel=0.03)


@pytest.mark.parametrize("depth", [2, 18, 21])
def test_resnet_refuses_other_depths(depth: int) -> None:
    with pytest.raises(UserError, match="6n \\+ 2"):
        CifarResNet((3, 32, 32), 10, depth=depth)


CONV3 = 9 * 4 * 4 + 2 * 4  # 3 x 3 from 4 to 4 channels, with batch norm
CONV1 = 4 * 4 + 2 * 4
SEPARABLE = 9 * 4 + CONV1


@pytest.mark.parametrize(
    ("cell", "parameters"),
    [
        (["identity"], 0),
        (["conv1x1"], CONV1),
        (["conv3x3", "identity", "conv3x3"], 2 * CONV3),
        (["separable3x3", "none", "max_pool3x3"], SEPARABLE),
        (["conv3x3", "conv3x3", "none"], CONV3),  # 0→1 leads nowhere
        (["none", "conv1x1", "conv3x3"], CONV1),  # 1→2 comes from nowhere
        (["conv3x3", "none", "conv1x1", "none", "avg_pool3x3", "separable3x3"], CONV3 + CONV1 + SEPARABLE),
    ],
)
def test_a_cell_has_the_parameters_of_its_operations(cell: list[str], parameters: int) -> None:
    net = CellNet((1, 8, 8), 10, cell=cell, stages=1, width=4)
    assert count(net) == (9 * 4 + 2 * 4) + parameters + (4 * 10 + 10)


def test_cell_net_has_the_parameters_counted_by_hand() -> None:
    stem, output = 9 * 16 + 32, 10 * 32 + 10
    cells = 2 * (9 * 16**2 + 2 * 16) + 2 * (9 * 32**2 + 2 * 32)
    between = 16 * 32 + 2 * 32
    assert count(CellNet((1, 28, 28), 10)) == stem + cells + between + output == 24_314
    two = {"cell": ["conv1x1"], "cells": 2, "width": 4}
    # Of the second stage: 8 channels, from 4 of the first one or, joined densely, from 4 + 4 + 4.
    plain = 9 * 4 + 8 + 2 * CONV1 + (4 * 8 + 16) + 2 * (64 + 16) + (8 * 10 + 10)
    assert count(CellNet((1, 8, 8), 10, joined="sequential", **two)) == plain
    assert count(CellNet((1, 8, 8), 10, joined="residual", **two)) == plain
    mixed = (4 * 4 + 8) + (8 * 4 + 8) + (8 * 8 + 16) + (16 * 8 + 16)
    more_inputs = (12 - 4) * 8 + (24 - 8) * 10
    assert count(CellNet((1, 8, 8), 10, joined="dense", **two)) == plain + mixed + more_inputs


def test_a_cell_is_the_sum_over_its_edges() -> None:
    net: Any = CellNet((3, 8, 8), 10, cell=["conv3x3", "max_pool3x3", "conv1x1"], norm=None, stages=1, width=4)
    (three, _, one) = net.stages[0][0].cells[0].operations
    x = batch((4, 8, 8))
    node = F.relu(F.conv2d(x, three[0].weight, three[0].bias, padding=1))
    expected = F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=-math.inf), 3, stride=1)
    expected = expected + F.relu(F.conv2d(node, one[0].weight, one[0].bias))
    torch.testing.assert_close(net.stages[0][0].cells[0](x), expected)


def test_cells_are_joined_as_the_formulas_say() -> None:
    x = batch((3, 8, 8))
    for joined in ("sequential", "residual", "dense"):
        net: Any = CellNet((3, 8, 8), 10, joined=joined, cells=2, stages=1, width=4).eval()
        (stage,) = net.stages[0]
        first, second = stage.cells
        stem = net.stem(x)
        if joined == "sequential":
            features = second(first(stem))
        elif joined == "residual":
            features = stem + first(stem)
            features = features + second(features)
        else:
            one = first(stage.mixed[0](stem))
            features = torch.cat([stem, one, second(stage.mixed[1](torch.cat([stem, one], 1)))], 1)
        torch.testing.assert_close(net(x), net.output(features.mean((2, 3))))


@pytest.mark.parametrize("joined", ["residual", "dense"])
def test_a_cell_net_of_each_kind_is_compiled_and_exported(joined: str) -> None:
    cell = ["conv3x3", "avg_pool3x3", "separable3x3", "none", "identity", "conv1x1"]
    net: Any = build("cell_net", cell=cell, joined=joined, cells=2).eval()
    compiled: Any = torch.compile(net, backend="aot_eager")
    torch.testing.assert_close(compiled(batch()), net(batch()))
    exported = torch.export.export(net, (batch(),), dynamic_shapes=({0: torch.export.Dim("samples", min=1, max=64)},))
    torch.testing.assert_close(exported.module()(batch(samples=7)), net(batch(samples=7)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cell": ["conv3x3", "identity"]}, "1, 3, 6, 10"),
        ({"cell": []}, "1, 3, 6, 10"),
        ({"cell": ["conv3"]}, "did you mean conv3x3"),
        ({"cell": "conv3x3"}, "not a list"),
        ({"cell": ["none"]}, "nothing leads from the input"),
        ({"cell": ["conv3x3", "none", "none"]}, "nothing leads from the input"),
        ({"joined": "densely"}, "did you mean dense"),
        ({"cells": 0}, "cells"),
        ({"stages": 0}, "stages"),
    ],
)
def test_cell_net_refuses_what_makes_no_sense(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CellNet(SHAPE, 10, **arguments)
