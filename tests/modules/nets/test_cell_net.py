"""Cells: their size by hand, their sums, and how they are joined."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from net_measures import count
from tiny_nets import SHAPE, batch, build
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.nets import CellNet

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
