"""A board as GitHub-flavoured Markdown."""

from __future__ import annotations

import re

from trainoff.leaderboards.board import Board, TaskTable
from trainoff.leaderboards.numbers import plain
from trainoff.leaderboards.render.columns import columns_of


def board_text(board: Board) -> str:
    """Verdict, then of each task a table and its notes, then problems."""
    parts = [f"**{escaped(board.verdict())}**"]
    parts += [_section(table, alone=len(board.tables) == 1) for table in board.tables]
    lines = [*board.notes, *(f"Not read: {problem}" for problem in board.problems)]
    if lines:
        parts.append("\n".join(f"- {escaped(line)}" for line in lines))
    return "\n\n".join(parts) + "\n"


def _section(table: TaskTable, alone: bool) -> str:
    columns = columns_of(table)
    lines = [f"## {escaped(table.task)}", ""]
    if not alone:
        lines += [escaped(table.verdict()), ""]
    lines.append("| " + " | ".join(escaped(column.header) for column in columns) + " |")
    lines.append("|" + "|".join(":--" if column.is_text else "--:" for column in columns) + "|")
    for cells in zip(*(column.cells for column in columns), strict=True):
        lines.append("| " + " | ".join(escaped(cell) for cell in cells) + " |")
    if table.notes:
        lines += ["", *(f"- {escaped(note)}" for note in table.notes)]
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Text in which Markdown and HTML see no mark-up of theirs."""
    text = re.sub(r"([\\`*_\[\]|~#])", r"\\\1", plain(text))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("://", ":&#47;&#47;")
