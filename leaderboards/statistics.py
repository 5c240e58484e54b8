"""What seeds can tell: intervals of a mean, paired tests of two recipes, and a correction for many tests.

The interval is Student's: mean ± t(0.975, n-1)·s/√n. Two recipes are compared by the differences of their scores on
the same seed (for a seed both start from the same weights and see the same order), which takes out what the seed
does to both. Source: Student (1908), "The probable error of a mean"; Holm (1979), "A simple sequentially rejective
multiple test procedure".
"""

from __future__ import annotations

import math
import sys
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

# Two seeds have a standard deviation, but t(0.975, 1) = 12.7 makes an interval of it that says nothing.
LEAST_COUNT = 3
SIGNIFICANCE = 0.05
CONFIDENCE = 0.95

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % t interval.

    Args:
        mean: The mean, in the unit of the values.
        margin: Half the interval's width; ``None`` under three values.
        count: How many values.
    """

    mean: float
    margin: float | None
    count: int

    @property
    def low(self) -> float | None:
        """Lower end of the interval."""
        return None if self.margin is None else self.mean - self.margin

    @property
    def high(self) -> float | None:
        """Upper end of the interval."""
        return None if self.margin is None else self.mean + self.margin


@dataclass(frozen=True)
class PairedTest:
    """Two recipes on the keys that both have a score for.

    Args:
        difference: Mean of first minus second with its interval; its ``count`` is the number of pairs.
        p_value: Two-sided, of the paired t test; ``None`` under three pairs.
    """

    difference: Estimate
    p_value: float | None


def estimate(values: Iterable[float | None]) -> Estimate | None:
    """Mean and 95 % t interval of the values that are there and finite; ``None`` where none is."""
    present = [value for value in values if value is not None and math.isfinite(value)]
    if not present:
        return None
    return _estimate(present, 0.0)


def _estimate(present: Sequence[float], noise: float) -> Estimate:
    mean, error = _mean_and_error(present, noise)
    margin = None if error is None else _t_quantile(len(present) - 1) * error
    if margin is not None and not math.isfinite(margin):
        margin = None
    return Estimate(mean, margin, len(present))


def paired_test(first: Mapping[Key, float], second: Mapping[Key, float]) -> PairedTest | None:
    """Paired t test over the keys (seeds) that both have; a key that one of them lacks is left out.

    Args:
        first: Score by seed.
        second: Score by seed.

    Returns:
        The test, or ``None`` where no key is shared. Differences that are all zero give p = 1, all the same but
        not zero p = 0 (``scipy.stats.ttest_rel`` gives NaN for the first).
    """
    shared = [key for key in first if key in second]
    if not shared:
        return None
    # Scores that differ by the same amount give differences that are equal up to the rounding of the scores.
    noise = 4 * sys.float_info.epsilon * max(max(abs(first[key]), abs(second[key])) for key in shared)
    differences = [first[key] - second[key] for key in shared]
    difference = _estimate(differences, noise)
    mean, error = _mean_and_error(differences, noise)
    if error is None:
        return PairedTest(difference, None)
    if error == 0:
        return PairedTest(difference, 1.0 if abs(mean) <= noise else 0.0)
    from scipy.special import stdtr

    return PairedTest(difference, float(2 * stdtr(len(differences) - 1, -abs(mean / error))))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction: the p values adjusted for how many tests there are; ``None`` stays ``None``.

    Args:
        p_values: One of each test; ``None`` where no test could be made (it does not count as one).
    """
    order = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for position, (p, index) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - position)))
        adjusted[index] = largest
    return adjusted


def _mean_and_error(values: Sequence[float], noise: float) -> tuple[float, float | None]:
    """Mean and its standard error, without overflow for losses near the largest float.

    A spread up to ``noise`` is none.
    """
    count = len(values)
    mean = math.fsum(value / count for value in values)
    if count < LEAST_COUNT:
        return mean, None
    deviations = [value - mean for value in values]
    scale = max(abs(deviation) for deviation in deviations)
    # Equal values: the rounded mean may differ from each of them in the last place.
    if scale <= noise or min(values) == max(values):
        return values[0], 0.0
    spread = scale * math.sqrt(math.fsum((deviation / scale) ** 2 for deviation in deviations) / (count - 1))
    return mean, spread / math.sqrt(count)


@lru_cache(maxsize=1024)
def _t_quantile(degrees: int) -> float:
    from scipy.special import stdtrit  # 0.2 s, and not needed for boards of fewer than three seeds

    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2))
