"""A board as JSON: a list of flat rows, which a program can read."""

from __future__ import annotations

import json

from trainoff.leaderboards.board import Board
from trainoff.leaderboards.comparison import Comparison


def board_text(board: Board) -> str:
    """A list of the rows of :meth:`Standing.to_dict`; a number that is not there is ``null``."""
    rows = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in board.to_dicts()]
    return "[\n" + ",\n".join(rows) + "\n]" if rows else "[]"


def comparison_text(comparison: Comparison) -> str:
    """:meth:`Comparison.to_dict`, indented."""
    return json.dumps(comparison.to_dict(), ensure_ascii=False, allow_nan=False, indent=1)
