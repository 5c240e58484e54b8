"""The parts of batches that processes are given by anyone's DataLoader are the batches of one process."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler

from trainoff.benchmarks.engines.rank_side import BatchParts
from trainoff.errors import UserError


@given(samples=st.integers(1, 60), share=st.integers(1, 7), count=st.integers(1, 4), drop=st.booleans())
def test_parts_make_up_the_batches(samples, share, count, drop):
    size = share * count
    whole = list(BatchSampler(SequentialSampler(range(samples)), size, drop))
    parts = [BatchParts(SequentialSampler(range(samples)), size, drop, rank, count) for rank in range(count)]
    dealt = [list(part) for part in parts]
    assert {len(each) for each in dealt} == {len(parts[0])}
    for pieces, batch in zip(zip(*dealt, strict=True), whole, strict=False):
        assert len({len(piece) for piece in pieces}) == 1
        together = [position for piece in pieces for position in piece]
        assert together == batch[: len(together)]
        assert len(batch) - len(together) < count
    assert len(whole) - len(parts[0]) in (0, 1)  # a last batch with fewer samples than processes is none


def test_all_ranks_draw_one_order():
    drawn = []
    for rank in range(2):
        torch.manual_seed(5)
        drawn.append(list(BatchParts(RandomSampler(range(32)), 8, False, rank, 2)))
    torch.manual_seed(5)
    alone = list(BatchSampler(RandomSampler(range(32)), 8, False))
    assert [one + two for one, two in zip(*drawn, strict=True)] == alone


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(UserError, match="a batch of 9 cannot be shared equally by 2 devices"):
        BatchParts(SequentialSampler(range(32)), 9, False, 0, 2)
