"""Rows of a table that lies on disk, read in blocks: shuffled block by block, with little in memory at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainoff.datamodules.tensor_batches import TensorBatches
from trainoff.seeds import derive_seed

Rows = npt.NDArray[np.int64]


class RowSource(Protocol):
    """What rows are read from."""

    def read(self, start: int, stop: int) -> tuple[Tensor, ...]:
        """Rows ``start`` to ``stop`` of the table, as new tensors on the CPU."""
        ...


class Blocks(NamedTuple):
    """Some of a table's rows, as runs of consecutive ones.

    Args:
        starts: The first row of each block.
        stops: The row after its last.
    """

    starts: Rows
    stops: Rows

    @classmethod
    def of(cls, rows: int, size: int) -> Blocks:
        """All rows in blocks of one size; the last one may be shorter."""
        starts = np.arange(0, rows, size, dtype=np.int64)
        return cls(starts, np.minimum(starts + size, rows))

    @property
    def rows(self) -> int:
        """How many rows they hold."""
        return int((self.stops - self.starts).sum())

    def chosen(self, places: Rows) -> Blocks:
        """These blocks, in this order."""
        return Blocks(self.starts[places], self.stops[places])


class BlockOrder:
    """The order of an epoch: blocks in random order, and rows at random within a window of several blocks.

    It depends on its arguments alone. A window is what is in memory at a time: the larger it is, the better rows are
    mixed.

    Args:
        blocks: Of the rows.
        window: Blocks that are mixed with one another.
        seed: Of the order.
        epoch: From 0.
    """

    def __init__(self, blocks: Blocks, window: int, seed: int, epoch: int) -> None:
        generator = torch.Generator().manual_seed(derive_seed(seed, "blocks", epoch))
        self.blocks = blocks.chosen(torch.randperm(len(blocks.starts), generator=generator).numpy())
        self.window, self.seed, self.epoch = window, seed, epoch
        sizes = self.blocks.stops - self.blocks.starts
        edges = np.append(np.arange(0, len(sizes), window), len(sizes))
        self.offsets = np.append(0, np.cumsum(sizes))[edges]  # the first place of each window, and the end

    def window_of(self, place: int) -> int:
        """The window that a place of the epoch's order lies in."""
        return int(np.searchsorted(self.offsets, place, side="right")) - 1

    def read(self, source: RowSource, number: int) -> tuple[Tensor, ...]:
        """The rows of a window in their order."""
        chosen = range(number * self.window, min((number + 1) * self.window, len(self.blocks.starts)))
        parts = [source.read(int(self.blocks.starts[block]), int(self.blocks.stops[block])) for block in chosen]
        whole = [torch.cat(columns) for columns in zip(*parts, strict=True)]
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "rows", self.epoch, number))
        order = torch.randperm(len(whole[0]), generator=generator)
        return tuple(column[order] for column in whole)


class StreamBatches(TensorBatches):
    """Batches of rows on disk; cut, shared by ranks and resumed as those of :class:`TensorBatches`.

    Args:
        source: Where rows are read.
        blocks: Those of the split.
        batch_size: Rows in a global batch, over all devices.
        window: Blocks that are mixed with one another where rows are shuffled.
        device: Where batches are moved to.
        options: ``shuffle``, ``seed``, ``microbatches``, ``rank``, ``world_size`` and ``equal_shares``.
    """

    def __init__(
        self,
        source: RowSource,
        blocks: Blocks,
        batch_size: int | Literal["full"],
        window: int,
        device: torch.device | str | None = None,
        **options: Any,
    ) -> None:
        # of no width: only the number of rows counts, and there are no data to hold
        super().__init__((torch.empty(blocks.rows, 0),), batch_size, **options)
        self.source, self.blocks, self.window, self.device = source, blocks, window, device

    def _slicing(self) -> Callable[[int, int], tuple[Tensor, ...]]:
        order = BlockOrder(self.blocks, self.window, self.seed, self.epoch) if self.shuffle else None
        read = self._in_turn if order is None else _Windows(self.source, order).read
        return lambda start, stop: tuple(column.to(self.device) for column in read(start, stop))

    def _in_turn(self, start: int, stop: int) -> tuple[Tensor, ...]:
        """Rows as they lie, block after block."""
        offsets = np.append(0, np.cumsum(self.blocks.stops - self.blocks.starts))
        first, last = (int(np.searchsorted(offsets, place, side="right")) - 1 for place in (start, stop - 1))
        parts = []
        for block in range(first, last + 1):
            shift = int(self.blocks.starts[block] - offsets[block])
            low, high = max(start, int(offsets[block])), min(stop, int(offsets[block + 1]))
            parts.append(self.source.read(low + shift, high + shift))
        return tuple(torch.cat(columns) for columns in zip(*parts, strict=True))


class _Windows:
    """Reads places of an order, one window in memory."""

    def __init__(self, source: RowSource, order: BlockOrder) -> None:
        self.source, self.order = source, order
        self.number = -1
        self.rows: tuple[Tensor, ...] = ()

    def read(self, start: int, stop: int) -> tuple[Tensor, ...]:
        parts = []
        while start < stop:
            number = self.order.window_of(start)
            if number != self.number:
                self.rows = ()  # let go of the last one before the next is read
                self.rows, self.number = self.order.read(self.source, number), number
            offset, end = int(self.order.offsets[number]), min(stop, int(self.order.offsets[number + 1]))
            parts.append(tuple(column[start - offset : end - offset] for column in self.rows))
            start = end
        return parts[0] if len(parts) == 1 else tuple(torch.cat(columns) for columns in zip(*parts, strict=True))
