"""The columns of a task's table as text, in reading order: what terminal, Markdown, LaTeX and HTML share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trainoff.leaderboards.board import TaskTable
from trainoff.leaderboards.candidates import COSTS, DEFAULT_COST
from trainoff.leaderboards.failures import failure_text
from trainoff.leaderboards.numbers import (
    NOTHING,
    bytes_text,
    estimate_text,
    memory_text,
    metric_text,
    number,
    p_text,
    plain,
    seconds_text,
    setting_text,
    share_text,
)
from trainoff.leaderboards.standing import Standing
from trainoff.leaderboards.tuning_results import short_names

FRONT = "◆"


@dataclass(frozen=True)
class Column:
    """One column.

    Args:
        header: Short title.
        cells: One text a row.
        meaning: What it holds, in a sentence.
        importance: Lower stays longer where the place is short.
        is_text: Aligned to the left.
    """

    header: str
    cells: tuple[str, ...]
    meaning: str
    importance: int
    is_text: bool = False


Cell = Callable[[Standing], str]


def columns_of(table: TaskTable) -> list[Column]:
    """The columns that hold anything; rank, recipe and the headline metric always stand."""
    metric = metric_text(table.metric)
    cost = searched_cost(table)
    kinds: list[tuple[str, Cell, str, int, bool]] = [
        ("#", rank_text, "place; = where not separable from the best", 0, False),
        ("recipe", lambda row: plain(row.recipe), "name of the recipe", 0, True),
        (f"test {metric}", lambda row: estimate_text(row.test), _HEADLINE, 0, False),
        ("p", lambda row: p_text(row.p_value).removeprefix("p ").removeprefix("= ") if row.p_value is not None else "",
         "of the paired t test against the best, over shared seeds, after Holm's correction", 6, False),
        ("seeds", lambda row: f"{row.seeds_ok}/{row.seeds_total}", "finished / all of the task", 1, False),
        ("failed", lambda row: failure_text(row.failures), "seeds that failed, and how", 2, True),
        (f"gap {metric}", lambda row: estimate_text(row.gap_metric),
         "train against test at the last epoch, positive where train looks better", 4, False),
        ("gap loss", lambda row: estimate_text(row.gap_loss), "test minus train loss at the last epoch", 11, False),
        ("train time", lambda row: seconds_text(row.train_seconds), "median, evaluation left out", 3, False),
        (FRONT, lambda row: FRONT if row.pareto else "", _SEARCHED_FRONT if cost else _TIMED_FRONT, 3, False),
        (f"searched {metric}", lambda row: number(row.searched_val, 4) if cost else "",
         "validation metric in the architecture search's own trials", 1, False),
        (cost, cost_text, f"what the search held it against: {COSTS[cost][1]}" if cost else "", 1, False),
        (f"val {metric}", lambda row: estimate_text(row.val), "validation at its best epoch", 9, False),
        (f"last test {metric}", lambda row: estimate_text(row.test_last), "test at the last epoch", 10, False),
        ("best/last epoch", _epochs_text, "median epoch of the best validation metric / epochs trained", 7, False),
        ("onset", lambda row: _median_text(row.onset_epoch), "median epoch of the least validation loss", 12, False),
        ("val loss rise", lambda row: estimate_text(row.val_loss_rise), "from there to the last epoch", 8, False),
        ("to target", _target_text, "median training time to the validation target (seeds that reached it)", 5, False),
        ("sparsity", lambda row: share_text(row.sparsity), "median share of zeros among prunable weights", 5, False),
        ("on disk", _bytes_text, "median size without the zeros (its share of the dense size)", 6, False),
        ("latency", lambda row: seconds_text(row.latency_seconds), "median forward pass of one sample", 7, False),
        (f"val {metric} before", lambda row: estimate_text(row.metric_before), "validation before the first pruning",
         8, False),
        (f"val {metric} after", lambda row: estimate_text(row.metric_after), "validation of what is left", 8, False),
        ("samples/s", lambda row: number(row.samples_per_second), "median training throughput", 13, False),
        ("speed-up", _speed_up_text, "throughput by that of the setting on one device (by the devices)", 4, False),
        ("memory", lambda row: memory_text(row.peak_memory_bytes), "median peak, or the largest of several devices",
         14, False),
        ("tuned", tuned_text, "chosen on validation; ! at the edge of its grid; ? not chosen, as all settings failed",
         15, True),
        ("tuning", _tuning_text, "tuning trials, and how many of them failed", 16, False),
    ]  # fmt: skip
    columns = [
        Column(header, tuple(cell(row) for row in table.rows), meaning, importance, is_text)
        for header, cell, meaning, importance, is_text in kinds
    ]
    repeated = {"gap loss"} if all(row.gap_is_of_loss for row in table.rows) else set()
    return [
        column
        for column in columns
        if column.importance == 0 or (column.header not in repeated and not set(column.cells) <= {"", NOTHING})
    ]


def _speed_up_text(row: Standing) -> str:
    """Empty on one device, and where one device was timed under other conditions."""
    if row.speed_up is None or row.efficiency is None:
        return ""
    return f"{row.speed_up:.2f} ({row.efficiency:.0%})"


_TIMED_FRONT = "on the Pareto front: none timed under the same conditions is better and faster"
_SEARCHED_FRONT = "on the search's Pareto front: no other candidate is better on validation and costs less"
_HEADLINE = "test metric at the epoch of the best validation metric: mean ± half of the 95 % t interval over seeds"


def searched_cost(table: TaskTable) -> str:
    """The cost of the architecture search whose candidates the rows are; empty where they are none."""
    cost = next((row.searched_cost for row in table.rows), "")
    return cost if cost in COSTS else DEFAULT_COST if cost else ""


def cost_text(row: Standing) -> str:
    """``4,810``, or ``0.12 ms`` for a latency; empty outside a search."""
    if not row.searched_cost:
        return ""
    return seconds_text(row.searched_value) if row.searched_cost == "latency" else number(row.searched_value)


def rank_text(row: Standing) -> str:
    """``1=``, ``4``, or a dash without a score."""
    return NOTHING if row.rank is None else f"{row.rank}{'=' if row.tied else ''}"


def tuned_text(row: Standing) -> str:
    """``lr=0.01!``: ``!`` at a grid's edge, ``?`` where no tuning result chose it."""
    names = short_names(list(row.tuned))
    unchosen = "?" if row.tuning_trials and not row.is_chosen else ""
    return ", ".join(
        f"{names[key]}={setting_text(value)}{'!' if key in row.edges else unchosen}"
        for key, value in row.tuned.items()
    )


def _tuning_text(row: Standing) -> str:
    failed = sum(row.tuning_failures.values())
    return f"{row.tuning_trials or ''}" + (f", {failed} failed" if failed else "")


def _epochs_text(row: Standing) -> str:
    if row.best_epoch is None and row.last_epoch is None:
        return NOTHING
    return f"{_median_text(row.best_epoch)}/{_median_text(row.last_epoch)}"


def _bytes_text(row: Standing) -> str:
    if row.bytes_on_disk is None or not row.dense_bytes:
        return NOTHING
    return f"{bytes_text(row.bytes_on_disk)} ({share_text(row.bytes_on_disk / row.dense_bytes)})"


def _median_text(value: float | None) -> str:
    return NOTHING if value is None else f"{value:g}"


def _target_text(row: Standing) -> str:
    if row.target is None or row.test is None:
        return NOTHING
    return f"{seconds_text(row.seconds_to_target)} ({row.target_reached}/{row.seeds_ok + row.seeds_failed})"
