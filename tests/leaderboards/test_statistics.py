"""Intervals, paired tests and Holm against independent computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from trainoff.leaderboards.statistics import estimate, holm, paired_test


@pytest.mark.parametrize("count", [3, 4, 10, 50])
def test_the_interval_is_scipys(count):
    values = np.random.default_rng(count).normal(0.9, 0.01, count)
    found = estimate(values.tolist())
    low, high = scipy.stats.t.interval(0.95, count - 1, loc=values.mean(), scale=scipy.stats.sem(values))
    assert found.count == count
    assert found.mean == pytest.approx(values.mean(), rel=1e-12)
    assert found.low == pytest.approx(low, rel=1e-10)
    assert found.high == pytest.approx(high, rel=1e-10)


@pytest.mark.parametrize("count", [3, 5, 10])
def test_the_interval_covers_the_truth_in_95_of_100_cases(count):
    samples = np.random.default_rng(1).normal(0.9, 0.02, (4000, count))
    covered = sum(abs(found.mean - 0.9) <= found.margin for found in map(estimate, samples.tolist()))
    assert covered / 4000 == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / 4000))


def test_no_interval_under_three_values():
    assert estimate([]) is None
    assert estimate([None, math.nan]) is None
    assert estimate([1.0, 2.0]).margin is None
    assert estimate([1.0, None, 2.0, math.inf]).count == 2


def test_values_near_the_largest_float_do_not_overflow():
    found = estimate([1e308, 1.1e308, 1.2e308])
    assert found.mean == pytest.approx(1.1e308)
    assert found.margin is not None


def test_equal_values_have_no_spread():
    assert estimate([0.1, 0.1, 0.1]).margin == 0
    assert estimate([0.1, 0.1, 0.1]).mean == 0.1


@pytest.mark.parametrize("count", [3, 5, 10])
def test_the_paired_test_is_scipys(count):
    generator = np.random.default_rng(count)
    first, second = generator.normal(0.9, 0.01, count), generator.normal(0.89, 0.01, count)
    found = paired_test(dict(enumerate(first.tolist())), dict(enumerate(second.tolist())))
    expected = scipy.stats.ttest_rel(first, second)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    interval = expected.confidence_interval()
    assert (found.difference.low, found.difference.high) == pytest.approx((interval.low, interval.high), rel=1e-9)


def test_pairs_that_one_side_lacks_are_left_out():
    first = {1: 0.9, 2: 0.8, 3: 0.95, 4: 0.1}
    second = {0: 0.7, 1: 0.85, 2: 0.82, 3: 0.9}
    found = paired_test(first, second)
    expected = scipy.stats.ttest_rel([0.9, 0.8, 0.95], [0.85, 0.82, 0.9])
    assert found.difference.count == 3
    assert found.p_value == pytest.approx(expected.pvalue)
    assert paired_test({1: 0.5}, {2: 0.5}) is None
    assert paired_test({1: 0.5, 2: 0.4}, {1: 0.4, 2: 0.5}).p_value is None


def test_equal_recipes_are_not_separable_and_constant_differences_are():
    same = {1: 0.5, 2: 0.6, 3: 0.7}
    assert paired_test(same, same).p_value == 1
    shifted = paired_test({key: value + 0.1 for key, value in same.items()}, same)
    assert (shifted.p_value, shifted.difference.margin) == (0, 0)
    rounded = {key: value * 3 / 3 + 1e-16 for key, value in same.items()}
    assert paired_test(rounded, same).p_value == 1


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=8))
def test_holm_is_the_naive_one(p_values):
    tests = [(p, index) for index, p in enumerate(p_values) if p is not None]
    expected = [None] * len(p_values)
    for p, index in tests:
        # the adjusted value of a test is the largest of (m - k) * p over all tests not after it
        smaller = [(q, other) for q, other in tests if (q, other) <= (p, index)]
        steps = [min(1.0, q * (len(tests) - sum(each < (q, other) for each in tests))) for q, other in smaller]
        expected[index] = max(steps)
    assert holm(p_values) == pytest.approx(expected) if tests else holm(p_values) == expected


def test_holm_of_a_known_example():
    assert holm([0.01, 0.04, 0.03, None]) == pytest.approx([0.03, 0.06, 0.06, None])
