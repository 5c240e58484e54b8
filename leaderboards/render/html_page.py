"""A board as one self-contained HTML page: no script, no network, readable in light and dark and on paper."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from functools import lru_cache
from html import escape as html_escape
from pathlib import Path

from trainoff.leaderboards.board import Board, TaskTable
from trainoff.leaderboards.numbers import metric_text, plain
from trainoff.leaderboards.render.columns import FRONT, Column, columns_of
from trainoff.leaderboards.render.plots import comparable_groups, overfitting, trade_off
from trainoff.leaderboards.standing import Standing


def board_text(board: Board) -> str:
    """The page. Everything from records is escaped, and a Content-Security-Policy allows the page's own style only."""
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    suites = sorted({row.suite for row in board.rows})
    title = f"Board: {', '.join(suites)}" if suites else "Board"
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_escape(title)}</title>",
        f"<style>{style}</style></head><body><main>",
        f"<h1>{_escape(title)}</h1>",
        f'<p class="verdict">{_escape(board.verdict())}</p>',
    ]
    alone = len(board.tables) == 1
    if not alone:
        links = "".join(f'<li><a href="#t{i}">{_escape(table.task)}</a></li>' for i, table in enumerate(board.tables))
        parts.append(f'<nav aria-label="Tasks"><ul>{links}</ul></nav>')
    parts.append(_list([*board.notes, *(f"Not read: {problem}" for problem in board.problems)]))
    meanings: dict[str, Column] = {}
    for index, table in enumerate(board.tables):
        columns = columns_of(table)
        meanings |= {column.header: column for column in columns}
        parts.append(_section(table, columns, f"t{index}", alone))
    parts.append(_glossary(meanings.values()))
    parts.append("</main></body></html>")
    return "\n".join(part for part in parts if part) + "\n"


def fragment(board: Board) -> str:
    """Verdict, tables and notes without style: what a notebook shows."""
    parts = [f"<p><b>{_escape(board.verdict())}</b></p>"]
    for table in board.tables:
        parts += [_table(table, columns_of(table)), _list(table.notes)]
    parts.append(_list([*board.notes, *(f"Not read: {problem}" for problem in board.problems)]))
    return "\n".join(part for part in parts if part)


def _section(table: TaskTable, columns: list[Column], identity: str, alone: bool) -> str:
    name = _escape(table.task)
    parts = [f'<section id="{identity}"><h2>{name}</h2>']
    if not alone:
        parts.append(f"<p>{_escape(table.verdict())}</p>")
    parts.append(_scrolling(_table(table, columns), f"Standings on {table.task}"))
    parts.append(_list(table.notes))
    for index, (timing, rows) in enumerate(comparable_groups(table)):
        plot = trade_off(table, rows, f"{identity}p{index}")
        is_clipped = 'class="n o"' in plot
        parts.append(
            "<figure>"
            + _scrolling(plot, "Trade-off plot")
            + f"<figcaption>{_legend(rows, is_clipped)}{_escape(f' Timed on {timing}.' if timing else '')}"
            "</figcaption></figure>"
        )
    dumbbells = overfitting(table, f"{identity}o")
    if dumbbells:
        parts.append(
            f"<figure>{_scrolling(dumbbells, 'Overfitting plot')}<figcaption><b>Overfitting.</b> Train and test "
            f"{_escape(metric_text(table.metric))} at the last epoch, in order of rank. Numbers stand beside what "
            "lies outside the axis.</figcaption></figure>"
        )
    parts.append("</section>")
    return "\n".join(part for part in parts if part)


def _legend(rows: list[Standing], is_clipped: bool) -> str:
    if rows[0].searched_cost:
        parts = ["<b>Quality against cost.</b> What the search saw: validation, on the tuning seeds."]
        parts.append("Diamonds and the dashed line are its Pareto front: nothing is both better and cheaper.")
        return " ".join(parts)
    parts = ["<b>Quality against time.</b> Whiskers are 95 % intervals over seeds."]
    if any(row.pareto for row in rows):
        parts.append("Diamonds and the dashed line are the Pareto front: nothing is both better and faster.")
    if any(row.seeds_failed for row in rows):
        parts.append("A cross has failed seeds: its value is of those that finished, and it is not on the front.")
    if is_clipped:
        parts.append("A dashed circle lies outside the axis, its value beside it.")
    return " ".join(parts)


def _table(table: TaskTable, columns: list[Column]) -> str:
    head = "".join(
        f'<th scope="col"{" class=t" if column.is_text else ""}>{_escape(column.header)}</th>' for column in columns
    )
    caption = _escape(f"{table.task}: mean ± half of the 95 % interval over seeds")
    lines = [f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>"]
    for index, row in enumerate(table.rows):
        cells = "".join(_cell(column, index) for column in columns)
        kind = " class=bad" if row.seeds_failed else " class=lead" if row.rank == 1 or row.tied else ""
        lines.append(f"<tr{kind}>{cells}</tr>")
    return "\n".join(lines) + "</tbody></table>"


def _cell(column: Column, index: int) -> str:
    text = _escape(column.cells[index])
    if column.header == "recipe":
        return f'<th scope="row">{text}</th>'
    if column.header == FRONT and text:
        return f'<td><span title="on the Pareto front">{text}</span></td>'
    return f"<td class=t>{text}</td>" if column.is_text else f"<td>{text}</td>"


def _scrolling(content: str, label: str) -> str:
    # Focusable, so that a keyboard can scroll it too.
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{_escape(label)}">{content}</div>'


def _list(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{_escape(line)}</li>" for line in lines)
    return f'<ul class="notes">{items}</ul>' if items else ""


def _glossary(columns: Iterable[Column]) -> str:
    items = "".join(f"<dt>{_escape(column.header)}</dt><dd>{_escape(column.meaning)}</dd>" for column in columns)
    return f"<section><h2>What the columns hold</h2><dl>{items}</dl></section>" if items else ""


def _escape(text: str) -> str:
    return html_escape(plain(text))


@lru_cache(maxsize=1)
def _style() -> str:
    return Path(__file__).with_name("board.css").read_text(encoding="utf-8").strip()
