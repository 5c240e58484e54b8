"""Rows in blocks: their order, their shares, and resumption."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainoff.datamodules.block_stream import BlockOrder, Blocks, StreamBatches


class Numbers:
    """A table whose rows are their own numbers; it notes how many were read at a time."""

    def __init__(self, rows: int) -> None:
        self.rows, self.largest = rows, 0

    def read(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        assert 0 <= start < stop <= self.rows
        self.largest = max(self.largest, stop - start)
        return torch.arange(start, stop)[:, None].float(), torch.arange(start, stop)


def stream(rows: int, block: int, window: int, **options: Any) -> StreamBatches:
    return StreamBatches(Numbers(rows), Blocks.of(rows, block), options.pop("batch_size", 7), window,
                         **{"shuffle": True, "seed": 3, **options})  # fmt: skip


def targets(loader: StreamBatches) -> list[list[int]]:
    return [batch[1].tolist() for batch in loader]


@given(rows=st.integers(2, 200), block=st.integers(1, 30), window=st.integers(1, 5), size=st.integers(1, 40),
       epoch=st.integers(0, 3))  # fmt: skip
@settings(deadline=None)
def test_every_row_comes_once_an_epoch(rows: int, block: int, window: int, size: int, epoch: int) -> None:
    loader = stream(rows, block, window, batch_size=size)
    loader.set_epoch(epoch)
    batches = targets(loader)
    assert sorted(row for batch in batches for row in batch) == list(range(rows))
    assert len(batches) == len(loader) == -(-rows // size)
    assert all(inputs[:, 0].tolist() == labels.tolist() for inputs, labels in loader)
    again = stream(rows, block, window, batch_size=size)
    again.set_epoch(epoch)
    assert targets(again) == batches


@given(rows=st.integers(8, 120), ranks=st.integers(1, 4), parts=st.integers(1, 2), block=st.integers(1, 20))
@settings(deadline=None, max_examples=50)
def test_ranks_and_micro_batches_share_the_undivided_batches(rows: int, ranks: int, parts: int, block: int) -> None:
    size = 8 * ranks
    options: dict[str, Any] = {"batch_size": size, "equal_shares": True}
    whole = targets(stream(rows, block, 3, world_size=1, **options))
    shares = [targets(stream(rows, block, 3, rank=rank, world_size=ranks, microbatches=parts, **options))
              for rank in range(ranks)]  # fmt: skip
    seen = [row for share in shares for batch in share for row in batch]
    assert len(seen) == len(set(seen)) == rows - rows % ranks
    first = {row for share in shares for batch in share[:parts] for row in batch}
    if rows >= size:
        assert first == set(whole[0])


@given(rows=st.integers(1, 100), ranks=st.integers(1, 4))
@settings(deadline=None, max_examples=50)
def test_evaluation_counts_every_row_once_whatever_the_ranks(rows: int, ranks: int) -> None:
    if rows < ranks:
        return
    seen = [row for rank in range(ranks)
            for batch in targets(stream(rows, 7, 2, shuffle=False, batch_size=16, rank=rank, world_size=ranks))
            for row in batch]  # fmt: skip
    assert sorted(seen) == list(range(rows))


@given(after=st.integers(1, 20), size=st.integers(3, 9))
@settings(deadline=None, max_examples=40)
def test_resumed_anywhere_an_epoch_goes_on_as_it_would_have(after: int, size: int) -> None:
    whole = targets(stream(150, 8, 3, batch_size=size))
    loader = stream(150, 8, 3, batch_size=size)
    iterator = iter(loader)
    for _ in range(min(after, len(whole) - 1)):
        next(iterator)
    again = stream(150, 8, 3, batch_size=size, seed=99)
    again.load_state_dict(loader.state_dict())
    assert targets(again) == whole[min(after, len(whole) - 1) :]


def test_an_order_mixes_rows_within_windows_and_never_changes() -> None:
    blocks = Blocks.of(1000, 50)
    order = BlockOrder(blocks, 4, seed=0, epoch=0)
    rows = torch.cat([order.read(Numbers(1000), number)[1] for number in range(5)]).tolist()
    assert sorted(rows) == list(range(1000))
    for number in range(5):
        inside = rows[number * 200 : (number + 1) * 200]
        assert len({row // 50 for row in inside}) == 4
        assert inside != sorted(inside)
    assert rows[:2] == [661, 367]
    assert BlockOrder(blocks, 4, seed=0, epoch=1).blocks.starts.tolist() != order.blocks.starts.tolist()


def test_no_more_than_a_window_is_in_memory() -> None:
    loader = stream(1000, 20, 3, batch_size=33)
    targets(loader)
    assert loader.source.largest <= 20  # type: ignore[attr-defined]
