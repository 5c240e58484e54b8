"""Nets of cells: small graphs of operations, stacked in one of three ways."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from trainoff.errors import UserError, closest
from trainoff.modules.nets.layers import activation as activation_named
from trainoff.modules.nets.layers import check_widths, convolution, dropout_place, image_sizes, norm_layer

OPERATIONS = ("none", "identity", "conv1x1", "conv3x3", "separable3x3", "avg_pool3x3", "max_pool3x3")
WAYS = ("sequential", "residual", "dense")


def operation(name: str, channels: int, activation: str, norm: str | None) -> nn.Module:
    """An operation of a cell, from (batch, channels, height, width) to the same shape.

    A convolution is followed by its norm and activation; ``separable3x3`` is a 3 x 3 convolution of each channel by
    itself and a 1 x 1 convolution. Pooling has stride 1.

    Args:
        name: One of :data:`OPERATIONS`, but not ``none``.
        channels: Of input and output.
        activation: By name.
        norm: By name; without one the last convolution has biases.
    """
    if name == "identity":
        return nn.Identity()
    if name == "avg_pool3x3":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    if name == "max_pool3x3":
        return nn.MaxPool2d(3, stride=1, padding=1)
    layers: list[nn.Module] = []
    if name == "separable3x3":
        layers.append(nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False))
    side = 3 if name == "conv3x3" else 1
    layers.append(nn.Conv2d(channels, channels, side, padding=side // 2, bias=norm is None))
    return nn.Sequential(*layers, norm_layer(norm, channels, dimensions=2), activation_named(activation))


def edges_of(cell: Sequence[str]) -> list[tuple[int, int, str]]:
    """The edges of a cell that lie on a way from its first node to its last: from, to, operation.

    Args:
        cell: The operations, in the order 0→1, 0→2, 1→2, 0→3, 1→3, 2→3, ...

    Raises:
        UserError: For an unknown operation, a number of them that is none of 1, 3, 6, 10, ..., or a last node that
            nothing of the first one reaches.
    """
    if isinstance(cell, str) or not all(isinstance(name, str) for name in cell):
        raise UserError(f"{cell!r} is not a list of operations, such as [conv3x3, identity, conv3x3]", "cell")
    for name in cell:
        if name not in OPERATIONS:
            raise UserError(f"no operation is called '{name}'{closest(name, OPERATIONS)}", "cell")
    last = (math.isqrt(8 * len(cell) + 1) - 1) // 2
    if not cell or last * (last + 1) // 2 != len(cell):
        raise UserError(
            f"1, 3, 6, 10, ... operations make a cell, one for each pair of nodes, not {len(cell)}", "cell"
        )
    pairs = [(start, end) for end in range(1, last + 1) for start in range(end)]
    edges = [(start, end, name) for (start, end), name in zip(pairs, cell, strict=True) if name != "none"]
    reached, leading = {0}, {last}
    for start, end, _ in edges:  # in the order of their ends
        if start in reached:
            reached.add(end)
    for start, end, _ in sorted(edges, reverse=True):  # by their starts, from the last one
        if end in leading:
            leading.add(start)
    if last not in reached:
        raise UserError(f"nothing leads from the input to the output of the cell {list(cell)}", "cell")
    return [(start, end, name) for start, end, name in edges if start in reached and end in leading]


class Cell(nn.Module):
    """A directed graph without cycles: each node is the sum of its edges' operations on earlier nodes.

    Node 0 is the input, the last one the output. From (batch, channels, height, width) to the same shape.

    Args:
        cell: See :func:`edges_of`.
        channels: Of every node.
        activation: By name.
        norm: By name.
    """

    def __init__(self, cell: Sequence[str], channels: int, activation: str, norm: str | None) -> None:
        super().__init__()
        edges = edges_of(cell)
        self.ends = [(start, end) for start, end, _ in edges]
        self.operations = nn.ModuleList(operation(name, channels, activation, norm) for _, _, name in edges)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The last node."""
        nodes = {0: x}
        for (start, end), layer in zip(self.ends, self.operations, strict=True):
            made = layer(nodes[start])
            nodes[end] = nodes[end] + made if end in nodes else made
        return nodes[self.ends[-1][1]]


class CellNet(nn.Module):
    """A net of equal cells for images, with two levels to choose: the cell, and how cells are joined.

    The search space is that of Liu et al. 2018 (section 2.1, at two levels): on the lower one a cell is a graph whose
    edges are operations, ``none`` among them; on the upper one cells are stacked. Here all cells of a net are equal.

    A 3 x 3 convolution (with norm and activation) to ``width`` channels; stages of ``cells`` cells; the mean over
    positions; a dense layer. Between stages a 1 x 1 convolution (with norm and activation) doubles the channels, and
    2 x 2 pooling of the mean halves the sides, rounded up. With F for a cell, joined

    - ``sequential``: x ← F(x);
    - ``residual``: x ← x + F(x) (He et al. 2016);
    - ``dense``: a cell gets a 1 x 1 convolution (with norm and activation) of the stage's input and all earlier
      cells' outputs, and a stage gives all of them (Huang et al. 2017).

    Parameters: for the default cell at width C, with batch norm, a cell has 2 (9C² + 2C); 24,314 for images of
    (1, 28, 28) and ten classes at the defaults.

    Args:
        input_shape: (channels, height, width).
        output_size: Number of outputs.
        cell: Operations of the edges 0→1, 0→2, 1→2, 0→3, 1→3, 2→3, ...: 1, 3, 6, 10, ... of :data:`OPERATIONS`.
        joined: ``sequential``, ``residual`` or ``dense``.
        cells: In each stage.
        stages: Of which each works on half the resolution of the one before.
        width: Channels of the first stage; each further one has twice as many.
        activation: See :data:`trainoff.modules.nets.layers.ACTIVATIONS`.
        norm: ``batch``, ``layer``, ``group``, ``instance``, ``rms`` or None; see
            :func:`trainoff.modules.nets.layers.norm_layer`.
        dropout: Share of the dense layer's inputs that is zeroed in training, in [0, 1).

    Raises:
        UserError: For inputs that are no images, a cell whose output its input does not reach, an unknown name, or a
            number that makes no sense.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_size: int,
        cell: Sequence[str] = ("conv3x3", "identity", "conv3x3"),
        joined: str = "sequential",
        cells: int = 1,
        stages: int = 2,
        width: int = 16,
        activation: str = "relu",
        norm: str | None = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        channels = image_sizes(input_shape)[0]
        for name, number in (("cells", cells), ("stages", stages), ("width", width)):
            check_widths(name, [number])
        if joined not in WAYS:
            raise UserError(f"cells are joined {', '.join(WAYS)}, not '{joined}'{closest(joined, WAYS)}", "joined")
        self.stem = convolution(channels, width, 3, activation, norm, padding=1)
        self.stages = nn.ModuleList()
        given = width
        for number in range(stages):
            made = width * 2**number
            stage = _Stage(cell, joined, cells, made, activation, norm)
            between = (
                [convolution(given, made, 1, activation, norm), nn.AvgPool2d(2, ceil_mode=True)] if number else []
            )
            self.stages.append(nn.Sequential(*between, stage))
            given = stage.output_channels
        self.dropout = dropout_place(dropout)
        self.output = nn.Linear(given, output_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, height, width) to (batch, output_size)."""
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.output(self.dropout(x.mean((2, 3))))  # type: ignore[no-any-return]


class _Stage(nn.Module):
    """Cells of one resolution."""

    def __init__(
        self, cell: Sequence[str], joined: str, cells: int, channels: int, activation: str, norm: str | None
    ) -> None:
        super().__init__()
        self.joined = joined
        self.output_channels = channels * (cells + 1) if joined == "dense" else channels
        self.cells = nn.ModuleList(Cell(cell, channels, activation, norm) for _ in range(cells))
        inputs = range(1, cells + 1) if joined == "dense" else ()
        self.mixed = nn.ModuleList(convolution(channels * count, channels, 1, activation, norm) for count in inputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, height, width) to (batch, output_channels, height, width)."""
        if self.joined == "dense":
            features = [x]
            for mix, cell in zip(self.mixed, self.cells, strict=True):
                features.append(cell(mix(torch.cat(features, 1))))
            return torch.cat(features, 1)
        for cell in self.cells:
            x = x + cell(x) if self.joined == "residual" else cell(x)
        return x
