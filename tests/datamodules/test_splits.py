from __future__ import annotations

import hashlib
import itertools
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainoff.datamodules.splits import RawData, SplitPlan, split_order, with_label_noise
from trainoff.datamodules.standardisation import Statistics
from trainoff.errors import UserError


def plan(**changes):
    return SplitPlan(
        **{"seed": 0, "val_fraction": 0.2, "test_fraction": 0.2, "label_noise": 0.0, "train_samples": None} | changes
    )


def numbered(labels: np.ndarray) -> RawData:
    return RawData(np.arange(len(labels))[:, None], labels)


def checksum(values: np.ndarray) -> str:
    return hashlib.sha256(values.astype("<i8").tobytes()).hexdigest()[:16]


def test_orders_never_change():
    labels = np.arange(1000) % 7
    assert checksum(split_order(labels, 0, stratified=False)) == "9e3ca0e949f4fdde"
    assert checksum(split_order(labels, 0, stratified=True)) == "e51fde68edc65b78"
    assert checksum(with_label_noise(labels, 7, 0.25, 0)) == "a7cd6b776cef2580"
    assert checksum(split_order(labels, 1, stratified=True)) != "e51fde68edc65b78"


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=2, max_size=6),
    seed=st.integers(0, 2**32),
    cuts=st.tuples(st.floats(0.05, 0.45), st.floats(0.05, 0.45)),
)
def test_each_part_of_a_stratified_order_has_each_class_in_proportion(sizes, seed, cuts):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    order = split_order(labels, seed, stratified=True)
    assert sorted(order) == list(range(len(labels)))
    bounds = [0, int(cuts[0] * len(labels)), int(sum(cuts) * len(labels)), len(labels)]
    for start, stop in itertools.pairwise(bounds):
        found = np.bincount(labels[order[start:stop]], minlength=len(sizes))
        expected = np.array(sizes) * (stop - start) / len(labels)
        assert np.abs(found - expected).max() <= len(sizes)
        if len(set(sizes)) == 1:
            assert np.abs(found - expected).max() < 2


def test_splits_are_disjoint_and_complete_and_a_smaller_train_split_is_a_subset():
    raw = numbered(np.arange(500) % 10)
    whole = plan().cut(raw, 10)
    assert [len(part.targets) for part in whole] == [300, 100, 100]
    assert sorted(np.concatenate([part.inputs[:, 0] for part in whole])) == list(range(500))
    assert all(np.array_equal(np.bincount(part.targets), [len(part.targets) // 10] * 10) for part in whole)
    few = plan(train_samples=50).cut(raw, 10)
    fewer = plan(train_samples=20).cut(raw, 10)
    assert np.array_equal(np.bincount(few.train.targets), [5] * 10)
    assert set(fewer.train.inputs[:, 0]) < set(few.train.inputs[:, 0]) < set(whole.train.inputs[:, 0])
    for part in ("val", "test"):
        assert np.array_equal(getattr(few, part).inputs, getattr(whole, part).inputs)
    other = plan(seed=1).cut(raw, 10)
    assert set(other.test.inputs[:, 0]) != set(whole.test.inputs[:, 0])


def test_an_official_test_split_is_kept():
    raw = RawData(np.arange(10)[:, None], np.zeros(10, int), np.arange(90, 93)[:, None], np.ones(3, int))
    splits = plan(test_fraction=None).cut(raw, 2)
    assert splits.test.inputs[:, 0].tolist() == [90, 91, 92]
    assert sorted([*splits.train.inputs[:, 0], *splits.val.inputs[:, 0]]) == list(range(10))
    with pytest.raises(UserError, match=r"test_fraction: 0.2 does not go .* which has one; leave it None"):
        plan().cut(raw, 2)
    with pytest.raises(UserError, match="has no official test split; give a share"):
        plan(test_fraction=None).cut(numbered(np.zeros(10, int)), 2)


@settings(max_examples=40)
@given(n=st.integers(1, 300), classes=st.integers(2, 10), fraction=st.floats(0, 1), seed=st.integers(0, 100))
def test_label_noise_changes_exactly_that_share_and_never_to_the_same_class(n, classes, fraction, seed):
    labels = np.arange(n) % classes
    before = labels.copy()
    noisy = with_label_noise(labels, classes, fraction, seed)
    assert (noisy != labels).sum() == round(fraction * n)
    assert noisy.min() >= 0
    assert noisy.max() < classes
    assert np.array_equal(labels, before)


def test_label_noise_is_symmetric():
    noisy = with_label_noise(np.zeros(90_000, int), 10, 1.0, 0)
    counts = np.bincount(noisy, minlength=10)
    assert counts[0] == 0
    # chi-squared with 8 degrees of freedom exceeds 31.8 once in 10,000 times
    assert ((counts[1:] - 10_000) ** 2 / 10_000).sum() < 31.8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val_fraction": 0.0}, "val_fraction: 0.0 is not a share"),
        ({"val_fraction": 1.0}, "val_fraction: 1.0"),
        ({"test_fraction": 0.0}, "test_fraction: 0.0"),
        ({"test_fraction": 0.8}, "test_fraction: 0.8 must be between 0 and 1 - val_fraction"),
        ({"label_noise": -0.1}, "label_noise: -0.1"),
        ({"label_noise": 1.1}, "label_noise: 1.1"),
        ({"train_samples": 0}, "train_samples: 0 is not from 1 to the 6"),
        ({"train_samples": 7}, "train_samples: 7 is not from 1 to the 6"),
        ({"val_fraction": 0.01}, "10 samples would be split into 8 to train, 0 to validate and 2 to test"),
        ({"test_fraction": 0.01}, "test_fraction: .* and 0 to test"),
    ],
)
def test_impossible_splits_are_refused_in_one_line(changes, message):
    with pytest.raises(UserError, match=message):
        plan(**changes).cut(numbered(np.arange(10) % 2), 2)


def test_statistics_are_those_of_the_standard_library():
    generator = np.random.default_rng(0)
    table = generator.normal(5, 3, (57, 4))
    table[:, 2] = 1.5  # a constant
    found = Statistics.of(table, per_feature=True)
    for column in (0, 1, 3):
        assert found.mean[column] == pytest.approx(statistics.fmean(table[:, column]), rel=1e-15)
        assert found.std[column] == pytest.approx(statistics.pstdev(table[:, column]), rel=1e-14)
    assert found.std[2] == 1.0
    assert np.array_equal(found.apply(table)[:, 2], np.zeros(57, np.float32))
    pixels = generator.integers(0, 256, (20, 1, 5, 5)).astype(np.uint8)
    counted = Statistics.of(pixels, per_feature=False)
    assert float(counted.mean) == pytest.approx(statistics.fmean(pixels.ravel().tolist()), rel=1e-15)
    assert float(counted.std) == pytest.approx(statistics.pstdev(pixels.ravel().tolist()), rel=1e-15)
    summed = Statistics.of(pixels.astype(float), per_feature=False)
    np.testing.assert_array_equal(counted.apply(pixels), summed.apply(pixels.astype(float)))
    assert counted.apply(pixels).dtype == np.float32
    assert float(Statistics.of(np.zeros((3, 2), np.uint8), per_feature=False).std) == 1.0
