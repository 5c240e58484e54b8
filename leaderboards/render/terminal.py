"""A board for the terminal: the verdict, a table a task with as many columns as fit, and notes."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import replace

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainoff.leaderboards.board import Board, TaskTable
from trainoff.leaderboards.comparison import Comparison
from trainoff.leaderboards.numbers import count_text, estimate_text, metric_text, p_text, plain, seconds_text
from trainoff.leaderboards.render.columns import Column, columns_of

_GAP = 2
_LEAST_NAME = 16
_RECIPE = "recipe"


def board_text(board: Board, width: int | None = None, colour: bool | None = None) -> str:
    """The board for a terminal of ``width`` columns; no number is wrapped or cut, a long name is."""
    console = _console(width, colour)
    _print(console, board.verdict(), "bold")
    for table in board.tables:
        console.print()
        if len(board.tables) > 1:
            _print(console, table.verdict(), "bold")
        _print_table(console, table)
    _print_notes(console, board.notes)
    _print_notes(console, (f"Not read: {problem}" for problem in board.problems), "yellow")
    return _text(console)


def comparison_text(comparison: Comparison, width: int | None = None, colour: bool | None = None) -> str:
    """The verdict, and of each task the two recipes side by side."""
    console = _console(width, colour)
    _print(console, comparison.verdict(), "bold")
    for task in comparison.tasks:
        console.print()
        grid = _grid()
        grid.add_column(Text(_cut(plain(task.task), 20)), no_wrap=True)
        for name in (comparison.first, comparison.second):
            grid.add_column(Text(_cut(plain(name), 24)), justify="right", no_wrap=True)
        sides = (task.first, task.second)
        metric = _cut(metric_text(task.metric), 12)
        grid.add_row(f"test {metric}", *(estimate_text(row.test) for row in sides))
        grid.add_row("seeds finished", *(f"{row.seeds_ok}/{row.seeds_total}" for row in sides))
        grid.add_row(f"gap {metric}", *(estimate_text(row.gap_metric) for row in sides))
        if not all(row.gap_is_of_loss for row in sides):
            grid.add_row("gap loss", *(estimate_text(row.gap_loss) for row in sides))
        if task.seconds_ratio is not None:  # else the two times may not be held beside each other
            grid.add_row("train time", *(seconds_text(row.train_seconds) for row in sides))
        console.print(grid)
        if task.difference is not None:
            pairs = count_text(task.difference.count, "pair")
            _print(console, f"difference {estimate_text(task.difference)} ({pairs}, {p_text(task.p_value)})")
    if comparison.correction():
        console.print()
        _print_notes(console, [comparison.correction()])
    _print_notes(console, (f"Not read: {problem}" for problem in comparison.problems), "yellow")
    return _text(console)


def _console(width: int | None, colour: bool | None) -> Console:
    if colour is None:
        colour = sys.stdout is not None and sys.stdout.isatty() and "NO_COLOR" not in os.environ
    columns = width if width is not None else shutil.get_terminal_size((100, 24)).columns
    return Console(
        file=io.StringIO(),
        width=max(columns, 40),
        force_terminal=colour,
        force_jupyter=False,  # else a notebook gets each print as a display, and the text stays empty
        color_system="standard" if colour else None,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )


def _text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def _print(console: Console, line: str, style: str = "") -> None:
    console.print(Text(plain(line), style=style))


def _print_notes(console: Console, notes: Iterable[str], style: str = "") -> None:
    for note in notes:
        table = Table.grid(padding=(0, 1))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        table.add_row("·", Text(plain(note), style=style))
        console.print(table)


def _print_table(console: Console, table: TaskTable) -> None:
    columns = columns_of(table)
    names = next(column for column in columns if column.header == _RECIPE)
    shortened = replace(names, cells=_shortened(names.cells, columns, console.width))
    columns = [shortened if column is names else column for column in columns]
    shown = _chosen(columns, console.width)
    grid = _grid()
    for column in shown:
        grid.add_column(Text(column.header), justify="left" if column.is_text else "right", no_wrap=True)
    for index, row in enumerate(table.rows):
        style = "green" if row.rank == 1 else "red" if row.seeds_failed else ""
        grid.add_row(*(Text(column.cells[index]) for column in shown), style=style)
    console.print(grid)
    hidden = [column.header for column in columns if column not in shown]
    if hidden:
        _print(console, f"Not shown at this width: {', '.join(hidden)}.", "dim")
    _print_notes(console, table.notes)


def _shortened(names: tuple[str, ...], columns: list[Column], width: int) -> tuple[str, ...]:
    """The names cut to what the important columns leave, or to what keeps them apart where that is more."""

    def left_by(importance: int) -> int:
        others = (column for column in columns if column.header != _RECIPE and column.importance <= importance)
        return width - sum(_width(column) + _GAP for column in others)

    most = max(_LEAST_NAME, left_by(0))
    room = max(_LEAST_NAME, min(left_by(3), 36 if width < 160 else 60))
    cuts = [tuple(_cut(name, size) for name in names) for size in range(room, max(room, most) + 1)]
    return next((cut for cut in cuts if len(set(cut)) == len(set(names))), cuts[0])


def _chosen(columns: list[Column], width: int) -> list[Column]:
    """The most important columns that fit, in reading order; the indispensable ones in any case."""
    kept: list[Column] = []
    for column in sorted(columns, key=lambda column: column.importance):
        needed = sum(_width(other) + _GAP for other in kept) + _width(column)
        if column.importance == 0 or needed <= width:
            kept.append(column)
    return [column for column in columns if column in kept]


def _width(column: Column) -> int:
    return max(map(cell_len, (column.header, *column.cells)))


def _cut(name: str, room: int) -> str:
    """The name's beginning and end: recipes of one family differ at the end."""
    if cell_len(name) <= room:
        return name
    tail = (room - 1) // 2
    end = name[len(name) - tail :]
    while cell_len(end) > tail:
        end = end[1:]
    return set_cell_size(name, room - 1 - cell_len(end)) + "…" + end


def _grid() -> Table:
    return Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, show_edge=False, header_style="dim")
