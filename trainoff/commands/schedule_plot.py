"""A learning rate over time as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_WIDTH, _HEIGHT, _TOTAL = 60, 5, 100


def plot_schedule(schedule: Any, interval: str) -> list[str]:
    """The shares of the base rate over 100 steps (or epochs), as lines of block characters.

    Args:
        schedule: With ``factor(step, total)``.
        interval: What the axis counts.
    """
    steps = [round(column * (_TOTAL - 1) / (_WIDTH - 1)) for column in range(_WIDTH)]
    lines = _bars([schedule.factor(step, _TOTAL) for step in steps])
    labels = ["1", *[" "] * (_HEIGHT - 2), "0"]
    axis = f"    0{f'{_TOTAL} {interval}s':>{_WIDTH - 1}}"
    return [*(f"  {label} {line}".rstrip() for label, line in zip(labels, lines, strict=True)), axis]


def _bars(shares: Sequence[float]) -> list[str]:
    """One column a share in [0, 1], from the top line down."""
    eighths = [max(1, round(share * 8 * _HEIGHT)) for share in shares]  # what is there is seen, be it ever so small
    rows = range(_HEIGHT - 1, -1, -1)
    return ["".join(_EIGHTHS[min(8, max(0, level - 8 * row))] for level in eighths) for row in rows]
