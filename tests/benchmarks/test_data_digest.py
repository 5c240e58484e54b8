"""The digest of data whose DataModule gives none: it sees changes, and nothing else."""

from __future__ import annotations

import random

import lightning as L
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, random_split
from users_project import UsersData

from trainoff.benchmarks import data_digest as data_digest_module
from trainoff.benchmarks.data_digest import fixed_randomness
from trainoff.benchmarks.provenance import data_digest


class Items(Dataset):
    """Items by index from a function of the index."""

    def __init__(self, item, length=40):
        self.item = item
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return self.item(index)


class Data(L.LightningDataModule):
    """Its training set is the given one; the others, where wanted, are small."""

    def __init__(self, train, held_out=None, batch_size=8, shuffle=True):
        super().__init__()
        self.train, self.held_out, self.batch_size, self.shuffle = train, held_out, batch_size, shuffle

    def train_dataloader(self):
        return DataLoader(self.train, self.batch_size, shuffle=self.shuffle and isinstance(self.train, Items))

    def val_dataloader(self):
        return [DataLoader(self.held_out)] if self.held_out else []

    def test_dataloader(self):
        return self.val_dataloader()


def digest_of(item, **arguments):
    return data_digest(Data(Items(item, **arguments)))


def vector(index):
    return np.arange(3, dtype=np.float32) + index, index % 2


def test_changed_labels_of_a_tensor_dataset_are_seen():
    data = UsersData()
    before = data_digest(data)
    assert len(before) == 64
    assert data_digest(UsersData(batch_size=5)) == before
    for dataset in (data.train_set, data.held_out):
        targets = dataset.tensors[1]
        targets[-1] = (targets[-1] + 1) % 3
        assert data_digest(data) != before
        targets[-1] = (targets[-1] - 1) % 3
    assert data_digest(data) == before


def test_the_order_and_the_batches_do_not_count():
    expected = digest_of(vector)
    assert data_digest(Data(Items(vector), batch_size=3, shuffle=False)) == expected


@pytest.mark.parametrize(
    "changed",
    [
        lambda index: (vector(index)[0], 1 - index % 2),
        lambda index: (vector(index)[0] + (index == 39), index % 2),
        lambda index: (vector(index)[0].astype(np.float64), index % 2),
        lambda index: (vector(index)[0][:, None], index % 2),
        lambda index: {"inputs": vector(index)[0], "targets": index % 2},
        lambda index: [torch.tensor(vector(index)[0]), str(index % 2)],
    ],
)
def test_whatever_changes_in_an_item_is_seen(changed):
    assert digest_of(changed) not in ("", digest_of(vector))


def test_a_large_set_is_known_by_a_sample_and_its_length(monkeypatch):
    monkeypatch.setattr(data_digest_module, "_ALL_BYTES", 1000)
    monkeypatch.setattr(data_digest_module, "_SAMPLE", 50)
    read = set()

    def item(index):
        read.add(index)
        return vector(index)

    digests = {digest_of(item, length=length) for length in (2000, 2001)}
    assert len(digests) == 2
    assert len(read) <= 100
    assert {0, 1999, 2000} <= read


def test_random_transforms_change_nothing_and_leave_the_generators_alone():
    def flipped(index):
        inputs, target = vector(index)
        return inputs * random.choice([-1, 1]) + torch.randn(3).numpy() + np.random.rand(3), target

    first = digest_of(flipped)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert digest_of(flipped) == first != ""
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == states[1:]
    assert digest_of(lambda index: flipped(index + 1)) != first


def test_items_that_differ_each_time_count_by_their_number():
    own = random.Random()

    def unforeseeable(index):
        return torch.tensor([own.random()])

    assert digest_of(unforeseeable) == ""
    held_out = TensorDataset(torch.arange(4.0))
    first = data_digest(Data(Items(unforeseeable), held_out))
    assert data_digest(Data(Items(unforeseeable), held_out)) == first != ""
    assert data_digest(Data(Items(unforeseeable, 41), held_out)) != first
    assert data_digest(Data(Items(unforeseeable), TensorDataset(torch.arange(1.0, 5.0)))) != first


class Stream(IterableDataset):
    def __iter__(self):
        return iter([torch.zeros(1)])


def test_what_cannot_be_hashed_gives_none():
    assert digest_of(lambda index: object()) == ""
    assert digest_of(lambda index: 1 / 0) == ""
    assert digest_of(lambda index: np.array([object()])) == ""
    assert data_digest(Data(Stream())) == ""
    assert data_digest(L.LightningDataModule()) == ""


class Splitting(L.LightningDataModule):
    """Splits at random without a seed, and has a test set only once it is asked for."""

    def __init__(self, flipped=()):
        super().__init__()
        self.targets = torch.zeros(40)
        self.targets[list(flipped)] = 1.0
        self.test = None

    def setup(self, stage):
        if stage == "fit":
            self.train, self.val = random_split(TensorDataset(self.targets[:30]), [20, 10])
        if stage == "test":
            self.test = TensorDataset(self.targets[30:])

    def train_dataloader(self):
        return DataLoader(self.train)

    def val_dataloader(self):
        return DataLoader(self.val)

    def test_dataloader(self):
        return DataLoader(self.test)


def test_an_unseeded_split_is_the_same_each_time_and_the_test_set_counts():
    def digest(*flipped):
        with fixed_randomness():
            data = Splitting(flipped)
            data.setup("fit")
        return data_digest(data)

    assert digest() == digest() != ""
    assert len({digest(), digest(3), digest(35)}) == 3


def test_what_a_datamodule_says_itself_counts():
    class Telling(UsersData):
        def digest(self):
            return "version 2"

    assert data_digest(Telling()) == "version 2"
