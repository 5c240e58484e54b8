"""Axes: which range is drawn, and where its ticks stand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """A range of values on a range of pixels.

    Args:
        low: Value at ``start``.
        high: Value at ``end``.
        start: Pixel of ``low``.
        end: Pixel of ``high``; may be less than ``start``.
        log: Whether the axis is logarithmic; both values are positive then.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value; values outside stand on the nearer end."""
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def holds(self, value: float) -> bool:
        """Whether the value lies on the axis."""
        return self.low <= value <= self.high

    def ticks(self) -> list[float]:
        """Three to eight round values on the axis."""
        if self.log and self.high / self.low > 8:
            for steps in ((1, 2, 5), (1, 3), (1,)):
                found = _decades(self.low, self.high, steps)
                if len(found) <= 8:
                    return found
            return found[:: math.ceil(len(found) / 8)]
        return _round_values(self.low, self.high)


def robust_range(values: Sequence[float], bad_is_low: bool) -> tuple[float, float]:
    """A range that shows the better ones apart: a value far worse than three quarters of them is left outside.

    Args:
        values: Finite, at least one.
        bad_is_low: Whether a low value is a bad one.
    """
    order = sorted(values, reverse=bad_is_low)
    kept = order[: max(2, math.ceil(0.75 * len(order)))]
    spread = abs(kept[-1] - kept[0])
    limit = kept[-1] + (-1 if bad_is_low else 1) * 1.5 * spread
    inside = [value for value in order if (value >= limit if bad_is_low else value <= limit)] if spread else order
    return min(inside), max(inside)


def padded(low: float, high: float, share: float = 0.06) -> tuple[float, float]:
    """The range with some room at both ends; never empty."""
    room = (high - low) * share or abs(low) * 0.05 or 1.0
    return low - room, high + room


def tick_texts(ticks: Sequence[float]) -> list[str]:
    """The ticks with as many decimals as their step needs."""
    step = min((b - a for a, b in itertools.pairwise(ticks)), default=1.0)
    if not 1e-6 < step < 1e6:
        return [f"{tick:.3g}" for tick in ticks]
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{tick:.{places}f}" for tick in ticks]


def _decades(low: float, high: float, steps: Sequence[int]) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    values = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    return [value for value in values if low <= value <= high]


def _round_values(low: float, high: float) -> list[float]:
    raw = (high - low) / 6
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]
