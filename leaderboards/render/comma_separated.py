"""A board as CSV: the JSON rows' columns; mappings and lists as JSON text in their cell."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from trainoff.leaderboards.board import Board


def board_text(board: Board) -> str:
    """Header and rows, lines ending in a line feed; an empty cell where there is no value.

    A text that a spreadsheet would run as a formula (it begins with ``=``, ``+``, ``-``, ``@``) gets an apostrophe
    before it: records come from anywhere.
    """
    rows = board.to_dicts()
    if not rows:
        return ""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, (dict, list)):
        value = json.dumps(value, ensure_ascii=False) if value else ""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value
