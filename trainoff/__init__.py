"""Which way of training should I use?

trainoff trains the same task under many recipes and tabulates how well each generalises, how much it overfits and
what it costs. Everything here is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainoff.lazy_imports import lazy_attributes

if TYPE_CHECKING:
    from trainoff.errors import UserError
    from trainoff.leaderboards import Board, read_board
    from trainoff.modules import Recipe
    from trainoff.running import compare_recipes, run

__version__ = "0.1.0"

_HOMES = {
    "Board": "leaderboards",
    "Recipe": "modules",
    "UserError": "errors",
    "compare_recipes": "running",
    "read_board": "leaderboards",
    "run": "running",
}

__all__ = ["Board", "Recipe", "UserError", "__version__", "compare_recipes", "read_board", "run"]


__getattr__ = lazy_attributes(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
