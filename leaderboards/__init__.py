"""From records to standings: which way of training is best, how sure that is, and what it costs.

Names are imported when they are first used. Nothing here needs torch or lightning, and a board is read without
pandas and without ``scipy.stats``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainoff.lazy_imports import lazy_attributes

if TYPE_CHECKING:
    from trainoff.leaderboards.board import Board, TaskTable
    from trainoff.leaderboards.comparison import Comparison, compare
    from trainoff.leaderboards.reading import read_board
    from trainoff.leaderboards.render import render_comparison
    from trainoff.leaderboards.standing import Standing
    from trainoff.leaderboards.statistics import Estimate

_HOMES = {
    "Board": "board",
    "Comparison": "comparison",
    "Estimate": "statistics",
    "Standing": "standing",
    "TaskTable": "board",
    "compare": "comparison",
    "read_board": "reading",
    "render_comparison": "render",
}

__all__ = [
    "Board",
    "Comparison",
    "Estimate",
    "Standing",
    "TaskTable",
    "compare",
    "read_board",
    "render_comparison",
]


__getattr__ = lazy_attributes(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
