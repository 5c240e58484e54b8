"""From a board and its records to the report's description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from trainoff.benchmarks.record import Record
from trainoff.benchmarks.secret_scan import without_secrets
from trainoff.leaderboards.board import Board, TaskTable
from trainoff.leaderboards.candidates import COSTS
from trainoff.leaderboards.failures import failure_text
from trainoff.leaderboards.numbers import metric_text, plain
from trainoff.leaderboards.publishing.run_content import CURVES, LONGEST_NAME, metric_of
from trainoff.leaderboards.render.columns import columns_of, searched_cost
from trainoff.leaderboards.render.plots import comparable_groups, overfitting, trade_off
from trainoff.leaderboards.report.compared import compared, reproduction
from trainoff.leaderboards.report.curve_plots import MOST_BANDS, band_of, curve_plot, legend
from trainoff.leaderboards.report.description import (
    Bars,
    Block,
    Bullets,
    Figure,
    Heading,
    Lines,
    Panel,
    Panels,
    Paragraph,
    Report,
    Scatter,
    Table,
    Verdict,
)
from trainoff.leaderboards.report.hyperparameters import hyperparameters
from trainoff.leaderboards.standing import Standing
from trainoff.leaderboards.task_rows import as_rows

_MOST_CURVES = 16


def make_report(board: Board, records: Sequence[Record], folder: Path) -> Report:
    """All that there is to say about a run folder.

    Args:
        board: Its standings.
        records: The same records, with their curves.
        folder: For what is said on how to reproduce it.
    """
    suites = sorted({row.suite for row in board.rows})
    verdict = board.verdict()
    blocks: list[Block] = [Verdict(verdict), Heading("What was compared"), *compared(board, records)]
    for index, table in enumerate(board.tables):
        members = _members(table, records)
        ids = {record.trial.id for record in members}
        groups = sorted({plain(record.trial.task)[:LONGEST_NAME] for record in records if record.trial.id in ids})
        blocks += _task(table, members, groups, f"r{index}", alone=len(board.tables) == 1)
    blocks += _failures(board)
    blocks += reproduction(board, records, folder)
    report = Report(plain(f"Training recipes: {', '.join(suites)}")[:128], verdict, blocks)
    return msgspec.convert(without_secrets(msgspec.to_builtins(report)), Report)


def _members(table: TaskTable, records: Sequence[Record]) -> list[Record]:
    """The table's records: its label is the task's name, with more where two tasks bear it."""
    suites = {row.suite for row in table.rows}
    return [
        record
        for record in as_rows(records)
        if record.trial.suite in suites
        and (plain(record.trial.task) == table.task or table.task.startswith(f"{plain(record.trial.task)} ["))
    ]


def _task(table: TaskTable, records: Sequence[Record], groups: list[str], identity: str, alone: bool) -> list[Block]:
    blocks: list[Block] = [Heading("Standings" if alone else f"Task: {table.task}")]
    if not alone:
        blocks.append(Paragraph(table.verdict()))
    columns = columns_of(table)
    blocks.append(
        Table(
            caption=f"{table.task}: mean ± half of the 95 % interval over seeds",
            headers=[column.header for column in columns],
            rows=[[column.cells[index] for column in columns] for index in range(len(table.rows))],
            is_text=[column.is_text for column in columns],
            leading=[row.rank == 1 or bool(row.tied) for row in table.rows],
            failing=[bool(row.seeds_failed) for row in table.rows],
        )
    )
    if table.notes:
        blocks.append(Bullets(list(table.notes)))
    if not records:
        return blocks
    styles = {plain(row.recipe): place for place, row in enumerate(table.rows)}
    metric = metric_text(table.metric)
    blocks += _trade_off(table, groups, identity)
    gaps = [f"last/train/{metric}", f"last/test/{metric}", "overfitting/gap_metric", "overfitting/gap_loss"]
    drawing = overfitting(table, f"{identity}o")
    caption = (
        f"Train against test. The {metric} at the last epoch, in order of rank; a long line is a large gap. Train is "
        "measured in eval mode on a fixed part of the training split, as large as test."
    )
    figures = [Figure(drawing, caption, "Overfitting plot")] if drawing else []
    panels = [Bars("Train and test at the last epoch", gaps[:2]), Bars("Generalisation gap", gaps[2:])]
    blocks += [Heading("Overfitting", 2), _panels(table, groups, panels, figures)]
    blocks += [Heading("Learning curves", 2), _curves(table, records, groups, styles, identity)]
    return blocks + hyperparameters(table, records, groups, styles, identity)


def _panels(
    table: TaskTable, groups: list[str], panels: Sequence[Panel], figures: list[Figure], stage: str = "final"
) -> Panels:
    name = f"{table.task}, {'final' if stage == 'final' else 'tuning'} trials"
    return Panels(name, groups, stage, table.rows[0].suite, list(panels), figures)


def _trade_off(table: TaskTable, groups: list[str], identity: str) -> list[Block]:
    """Quality against time; of an architecture search, validation against what the search held it against."""
    metric = metric_text(table.metric)
    cost = searched_cost(table)
    field = COSTS[cost][0] if cost else ""
    panels = (
        [Scatter(f"Validation {metric} against {cost}", f"cost/{field}", f"best/val/{metric}", log_x=True)]
        if cost
        else [
            Scatter(f"Test {metric} against training time", "cost/train_seconds", f"best/test/{metric}", log_x=True),
            Scatter(f"Test {metric} against peak memory", "cost/peak_memory_bytes", f"best/test/{metric}"),
        ]
    )
    figures = [
        Figure(
            trade_off(table, rows, f"{identity}p{index}"), _trade_off_caption(table, rows, timing), "Trade-off plot"
        )
        for index, (timing, rows) in enumerate(comparable_groups(table))
    ]
    shown = _panels(table, groups, panels, figures, "tune" if cost else "final")
    return [Heading("Quality against cost" if cost else "Quality against time", 2), shown]


def _trade_off_caption(table: TaskTable, rows: Sequence[Standing], timing: str) -> str:
    parts = [f"{'Up' if table.mode == 'max' else 'Down'} and to the left is better."]
    searched = bool(rows[0].searched_cost)
    parts.append(
        "What the search saw, on the tuning seeds." if searched else "Whiskers are 95 % intervals over seeds."
    )
    if any(row.pareto for row in rows):
        parts.append("Diamonds and the dashed line are the Pareto front.")
    if any(row.seeds_failed for row in rows) and not searched:
        parts.append("A cross has failed seeds: its value is of those that finished, and it is not on the front.")
    if timing:
        parts.append(f"Timed on {timing}.")
    return " ".join(parts)


def _curves(
    table: TaskTable, records: Sequence[Record], groups: list[str], styles: Mapping[str, int], identity: str
) -> Panels:
    metric = metric_of(records[0].trial)
    final = [record for record in records if record.trial.stage == "final"]
    by_recipe: dict[str, list[Record]] = {}
    for record in final:
        by_recipe.setdefault(plain(record.trial.recipe), []).append(record)
    ranked = [row for row in styles if _name(row) in by_recipe][:_MOST_CURVES]
    figures, panels = [], []
    for place, (field, title) in enumerate(
        {"train_loss": "Training loss", "val_loss": "Validation loss", "val_metric": f"Validation {metric}",
         "learning_rate": "Learning rate"}.items()
    ):  # fmt: skip
        panels.append(Lines(title, [CURVES[field].format(metric)]))
        bands = [
            band_of(name, styles[name], [getattr(record.curves, field) for record in by_recipe[_name(name)]])
            for name in ranked
        ]
        lower = field != "val_metric" or table.mode == "min"
        if drawing := curve_plot(title, bands, f"{identity}c{place}", lower):
            figures.append(Figure(drawing, "", f"{title} by epoch"))
    if figures:
        rest = len([row for row in styles if _name(row) in by_recipe]) - len(ranked)
        more = f" {rest} further recipes are not drawn." if rest > 0 else ""
        reach = "The bands reach from the least to the largest seed." if len(ranked) <= MOST_BANDS else ""
        caption = f"Mean over seeds by epoch. {reach}{more}"
        figures.insert(0, Figure(legend({name: styles[name] for name in ranked}), caption, "Legend"))
    return _panels(table, groups, panels, figures)


def _name(row: str) -> str:
    """A row's label without what tells it apart from others of its name."""
    return row.rsplit(" [", 1)[0] if row.endswith("]") else row


def _failures(board: Board) -> list[Block]:
    failing = [row for row in board.rows if row.seeds_failed or row.tuning_failures]
    blocks: list[Block] = [Heading("Failures")]
    if not failing:
        blocks.append(Paragraph("No trial failed." + (f" {board.unfinished}" if board.unfinished else "")))
    else:
        cells = []
        for row in failing:
            ended = row.seeds_ok + row.seeds_failed
            final = failure_text(row.failures, row.failure_reasons)
            tuning = failure_text(row.tuning_failures, row.tuning_failure_reasons)
            ids = [*row.failed_trials, *row.tuning_failed_trials]
            named = ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")
            cells.append([plain(row.task), plain(row.recipe), f"{row.seeds_failed} of {ended}", final, tuning, named])
        headers = ["task", "recipe", "failed seeds", "how", "in tuning", "trials"]
        blocks.append(Table("A failed trial counts; its record has the whole traceback.", headers, cells,
                            [True, True, False, True, True, True]))  # fmt: skip
    lines = [*board.notes, *(f"Not read: {problem}" for problem in board.problems)]
    if lines:
        blocks.append(Bullets(lines))
    return blocks
