from __future__ import annotations

import itertools
import random
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trainoff.datamodules.tensor_batches import TensorBatches, epoch_order
from trainoff.errors import UserError


def indices(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two tensors that hold each sample's index."""
    return torch.arange(n, dtype=torch.float32)[:, None], torch.arange(n)


def flat(lists: Iterable[list[int]]) -> list[int]:
    return list(itertools.chain.from_iterable(lists))


def seen(batches: TensorBatches) -> list[list[int]]:
    found = []
    for x, y in batches:
        assert x.squeeze(1).long().tolist() == y.tolist()
        found.append(y.tolist())
    assert len(found) == len(batches)
    return found


def naive(order: list[int], batch: int, parts: int) -> list[list[list[int]]]:
    """Global batches as lists of micro-batches, by NumPy's own splitting."""
    whole = [order[start : start + batch] for start in range(0, len(order), batch)]
    return [[part.tolist() for part in np.array_split(group, parts) if len(part)] for group in whole]


@given(n=st.integers(1, 60), batch=st.integers(1, 70), parts=st.integers(1, 8), shuffle=st.booleans())
def test_batches_and_microbatches_are_those_of_a_naive_implementation(n, batch, parts, shuffle):
    assume(parts <= batch)
    batches = TensorBatches(indices(n), batch, microbatches=parts, shuffle=shuffle, seed=3)
    order = epoch_order(n, 3, 0).tolist() if shuffle else list(range(n))
    expected = naive(order, batch, parts)
    assert seen(batches) == [part for group in expected for part in group]
    assert all(len(group) == parts for group in expected[:-1])


@given(n=st.integers(1, 60), share=st.integers(1, 20), parts=st.integers(1, 4), world=st.integers(1, 5))
def test_ranks_share_training_batches_equally(n, share, parts, world):
    assume(n >= world)
    assume(parts <= share)
    batch = share * world
    ranks = [
        seen(TensorBatches(indices(n), batch, parts, True, 7, rank=rank, world_size=world, equal_shares=True))
        for rank in range(world)
    ]
    assert len({tuple(map(len, rank)) for rank in ranks}) == 1  # equal numbers and sizes on every rank
    kept = n - n % world
    order = epoch_order(n, 7, 0).tolist()[:kept]
    steps = [[flat(rank[i : i + parts]) for rank in ranks] for i in range(0, len(ranks[0]), parts)]
    assert [flat(shares) for shares in steps] == [order[i : i + batch] for i in range(0, kept, batch)]


@given(n=st.integers(1, 60), batch=st.integers(1, 70), world=st.integers(1, 5))
def test_ranks_evaluate_every_sample_once_in_equally_many_batches(n, batch, world):
    assume(n >= world)
    assume(batch >= world)
    ranks = [seen(TensorBatches(indices(n), batch, rank=rank, world_size=world)) for rank in range(world)]
    assert len({len(rank) for rank in ranks}) == 1
    assert all(batch for rank in ranks for batch in rank)
    together = [flat(shares) for shares in zip(*ranks, strict=True)]
    assert flat(together) == list(range(n))
    assert all(len(group) == batch for group in together[:-1])
    assert all(max(map(len, shares)) - min(map(len, shares)) <= 1 for shares in zip(*ranks, strict=True))


@settings(max_examples=30)
@given(n=st.integers(1, 50), world=st.integers(1, 5))
def test_a_full_batch_is_one_step(n, world):
    assume(n >= world)
    ranks = [
        seen(TensorBatches(indices(n), "full", shuffle=True, rank=rank, world_size=world, equal_shares=True))
        for rank in range(world)
    ]
    assert all(len(rank) == 1 and len(rank[0]) == n // world for rank in ranks)
    assert len({index for rank in ranks for index in rank[0]}) == n - n % world


def test_every_sample_comes_once_an_epoch_in_an_order_of_its_own():
    batches = TensorBatches(indices(1000), 64, shuffle=True, seed=1)
    orders = []
    for epoch in range(3):
        batches.set_epoch(epoch)
        orders.append(flat(seen(batches)))
        assert sorted(orders[-1]) == list(range(1000))
    assert len(set(map(tuple, orders))) == 3
    batches.set_epoch(1)  # as a resumed run does
    assert flat(seen(batches)) == orders[1]
    assert flat(seen(TensorBatches(indices(1000), 64, shuffle=True, seed=2))) != orders[0]


@pytest.mark.parametrize("replacement", [False, True])
def test_the_order_neither_reads_nor_changes_global_random_state(replacement):
    torch.manual_seed(0)
    first = epoch_order(100, 5, 2, replacement)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    torch.rand(7)
    np.random.rand(3)
    assert torch.equal(first, epoch_order(100, 5, 2, replacement))
    torch.manual_seed(0)
    list(TensorBatches(indices(100), 8, shuffle=True, replacement=replacement))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[2]


def test_replacement_draws_uniformly_and_repeats():
    batches = TensorBatches(indices(50), 1, shuffle=True, replacement=True)
    counts = np.zeros(50)
    for epoch in range(200):
        batches.set_epoch(epoch)
        drawn = flat(seen(batches))
        assert len(drawn) == len(batches) == 50
        assert len(set(drawn)) < 50
        np.add.at(counts, drawn, 1)
    # 10,000 draws over 50 cells; chi-squared with 49 degrees of freedom exceeds 94.6 once in 10,000 times
    assert ((counts - 200) ** 2 / 200).sum() < 94.6


@pytest.mark.parametrize("shuffle", [False, True])
def test_iterating_leaves_the_data_as_they_are(shuffle):
    x = torch.randn(100, 3)
    before = x.clone()
    for _ in TensorBatches((x,), 7, microbatches=3, shuffle=shuffle):
        pass
    assert torch.equal(x, before)


def test_an_ordered_epoch_copies_nothing_and_a_shuffled_one_copies():
    x = torch.randn(10, 3)
    ordered = [batch.data_ptr() for (batch,) in TensorBatches((x,), 4)]
    assert ordered == [x[0].data_ptr(), x[4].data_ptr(), x[8].data_ptr()]
    for (batch,) in TensorBatches((x,), 4, shuffle=True):
        assert batch.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()


def test_tensors_are_moved_to_the_device_once():
    batches = TensorBatches(indices(10), 4, shuffle=True, device="meta")
    moved = batches.tensors
    assert [x.device.type for x, _ in batches] == ["meta"] * 3
    assert batches.tensors is moved


def test_the_sampler_is_what_lightning_sets_the_epoch_of():
    from lightning.fabric.utilities.data import _set_sampler_epoch

    batches = TensorBatches(indices(10), 4, shuffle=True)
    _set_sampler_epoch(batches, 5)
    assert batches.epoch == 5


def test_lightning_takes_an_ordered_loader_for_what_it_is():
    from lightning.pytorch.utilities.data import _is_dataloader_shuffled

    ordered = TensorBatches(indices(10), 4, microbatches=2)
    assert not _is_dataloader_shuffled(ordered)
    assert isinstance(ordered.sampler, torch.utils.data.SequentialSampler)
    assert ordered.batch_sampler.batch_size == 2
    assert list(ordered.sampler) == list(range(10))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size: 0 is not a number of samples; it must be at least 1, or 'full'"),
        ({"batch_size": "half"}, "batch_size: 'half' is neither a number of samples nor 'full'"),
        ({"batch_size": 2.5}, "batch_size: 2.5 is neither"),
        ({"batch_size": True}, "batch_size: True is neither"),
        ({"batch_size": 4, "microbatches": 5}, "microbatches: 5 .* between 1 and 4"),
        ({"batch_size": 4, "microbatches": 0}, "microbatches: 0 .* between 1 and 4"),
        ({"batch_size": "full", "microbatches": 11}, "between 1 and 10"),
        ({"batch_size": 4, "world_size": 2, "microbatches": 3}, "between 1 and 2"),
        ({"batch_size": 3, "world_size": 2, "equal_shares": True}, "a multiple of 2"),
        ({"batch_size": 16, "world_size": 16}, "10 samples cannot be shared by 16 devices"),
    ],
)
def test_impossible_batches_are_refused_in_one_line(arguments, message):
    with pytest.raises(UserError, match=message):
        TensorBatches(indices(10), **arguments)


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match=r"lengths \[3, 4\]"):
        TensorBatches((torch.zeros(3), torch.zeros(4)), 2)
