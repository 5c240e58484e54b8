"""Two recipes, paired by task and seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trainoff.errors import UserError, closest
from trainoff.leaderboards.board import Board
from trainoff.leaderboards.failures import failure_text
from trainoff.leaderboards.numbers import count_text, estimate_text, metric_text, number, p_text, plain
from trainoff.leaderboards.standing import Standing
from trainoff.leaderboards.statistics import SIGNIFICANCE, Estimate, estimate, holm, paired_test


@dataclass(frozen=True)
class TaskComparison:
    """Two recipes on one task.

    Args:
        task: The task.
        metric: Its metric.
        mode: ``max`` where more is better, else ``min``.
        first: The one recipe's row.
        second: The other's.
        difference: First minus second in the test metric, over the seeds that both finished; its count is the pairs.
        p_value: Of the paired t test, Holm-corrected over the tasks; ``None`` under three pairs.
        better: ``first`` or ``second`` where the test separates them at 0.05 and the one ahead has no larger share of
            failed seeds; else ``None``.
        seconds_ratio: Training seconds, first over second; ``None`` where they ran under different conditions.
    """

    task: str
    metric: str
    mode: str
    first: Standing
    second: Standing
    difference: Estimate | None
    p_value: float | None
    better: str | None
    seconds_ratio: float | None


@dataclass(frozen=True)
class Comparison:
    """Two recipes on all tasks that both were trained on.

    Args:
        first: Name of the one.
        second: Name of the other.
        tasks: Task by task: seeds of one task are pairs of one test.
        over_tasks: Mean of the tasks' differences with its interval over tasks (seeds of one task are not
            independent evidence about another); ``None`` for one task, or where the tasks' metrics differ.
        problems: As :attr:`Board.problems`.
        unfinished: As :attr:`Board.unfinished`.
    """

    first: str
    second: str
    tasks: tuple[TaskComparison, ...]
    over_tasks: Estimate | None
    problems: tuple[str, ...] = ()
    unfinished: str = ""

    def correction(self) -> str:
        """What the p values are corrected for, in a sentence; empty where nothing was tested."""
        tests = sum(task.p_value is not None for task in self.tasks)
        if not tests:
            return ""
        corrected = f"Holm-corrected for {tests} tasks" if tests > 1 else "of one task, so not corrected"
        return (
            f"p: paired t test over shared seeds, {corrected}. A board corrects for the recipes of a task instead, so "
            "its p may differ."
        )

    def verdict(self) -> str:
        """Which one is better, and how sure that is, in one sentence; a second one says what is unfinished."""
        return f"{self._sentence()} {self.unfinished}".rstrip()

    def _sentence(self) -> str:
        if len(self.tasks) == 1:
            return _sentence(self.tasks[0], self.first, self.second) + "."
        wins = [sum(task.better == side for task in self.tasks) for side in ("first", "second")]
        open_ = len(self.tasks) - sum(wins)
        failed = [sum(getattr(task, side).seeds_failed for task in self.tasks) for side in ("first", "second")]
        text = (
            f"On {count_text(len(self.tasks), 'task')} {self.first} is better on {wins[0]}, {self.second} on "
            f"{wins[1]}, and {open_} are open"
        )
        if self.over_tasks is not None:
            text += f"; over tasks {self.first} minus {self.second} is {estimate_text(self.over_tasks)}"
        if any(failed):
            text += f"; failed seeds: {self.first} {failed[0]}, {self.second} {failed[1]}"
        return text + "."

    def to_dict(self) -> dict[str, Any]:
        """Plain data: the names, the verdict, and of each task the difference and both rows."""
        return {
            "first": self.first,
            "second": self.second,
            "verdict": self.verdict(),
            "correction": self.correction(),
            "problems": list(self.problems),
            "over_tasks": None if self.over_tasks is None else asdict(self.over_tasks),
            "tasks": [
                {
                    "task": task.task,
                    "metric": task.metric,
                    "mode": task.mode,
                    "pairs": 0 if task.difference is None else task.difference.count,
                    "difference": None if task.difference is None else task.difference.mean,
                    "difference_margin": None if task.difference is None else task.difference.margin,
                    "p_value": task.p_value,
                    "better": {"first": self.first, "second": self.second}.get(task.better or ""),
                    "seconds_ratio": task.seconds_ratio,
                    "first": task.first.to_dict(),
                    "second": task.second.to_dict(),
                }
                for task in self.tasks
            ],
        }

    def __str__(self) -> str:
        from trainoff.leaderboards.render import render_comparison

        return render_comparison(self, "terminal", colour=False)


def compare(board: Board, first: str, second: str) -> Comparison:
    """Compare two recipes on every task that both stand on, paired by seed.

    Args:
        board: Whose rows.
        first: A recipe's name, as the board writes it.
        second: Another one's.

    Raises:
        UserError: For an unknown name, the same name twice, or two recipes without a common task.
    """
    names = list(dict.fromkeys(row.recipe for row in board.rows))
    for name in (first, second):
        if name not in names:
            known = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
            raise UserError(f"no recipe is called '{plain(name)}'{closest(name, names)}; the board has {known}")
    if first == second:
        raise UserError(f"'{first}' is compared with itself; name two recipes")
    pairs = []
    for table in board.tables:
        rows = {row.recipe: row for row in table.rows}
        if first in rows and second in rows:
            pairs.append((rows[first], rows[second]))
    if not pairs:
        raise UserError(f"{first} and {second} have no task in common")
    tests = [paired_test(one.scores, other.scores) for one, other in pairs]
    p_values = holm([None if test is None else test.p_value for test in tests])
    tasks = []
    for (one, other), test, p_value in zip(pairs, tests, p_values, strict=True):
        difference = None if test is None else test.difference
        better = None
        if difference is not None and p_value is not None and p_value < SIGNIFICANCE:
            ahead, behind = (one, other) if (difference.mean > 0) == (one.mode == "max") else (other, one)
            # Pairs are of survivors: who fails more often is not better for being ahead on the rest.
            if ahead.failed_share <= behind.failed_share:
                better = "first" if ahead is one else "second"
        tasks.append(TaskComparison(one.task, one.metric, one.mode, one, other, difference, p_value, better,
                                    _ratio(one, other)))  # fmt: skip
    return Comparison(first, second, tuple(tasks), _over_tasks(tasks), board.problems, board.unfinished)


def _over_tasks(tasks: Sequence[TaskComparison]) -> Estimate | None:
    differences = [task.difference.mean for task in tasks if task.difference is not None]
    if len(differences) < 2 or len({(task.metric, task.mode) for task in tasks}) > 1:
        return None
    return estimate(differences)


def _ratio(one: Standing, other: Standing) -> float | None:
    if not one.timing or one.timing != other.timing or not one.train_seconds or not other.train_seconds:
        return None
    ratio = one.train_seconds / other.train_seconds
    return ratio if math.isfinite(ratio) else None


def _sentence(task: TaskComparison, first: str, second: str) -> str:
    if task.difference is None:
        text = f"{first} and {second} share no finished seed on {task.task}"
    else:
        pairs = count_text(task.difference.count, "pair")
        evidence = f"{estimate_text(task.difference)} ({pairs}, {p_text(task.p_value)})"
        what = f"{first} minus {second} in test {metric_text(task.metric)} is {evidence}"
        if task.p_value is None:
            text = f"too few pairs for a test on {task.task}: {what}"
        elif task.better is None and task.p_value < SIGNIFICANCE:
            text = f"no winner on {task.task}, as the recipe that is ahead failed more often: {what}"
        elif task.better is None:
            text = f"{first} and {second} are not separable on {task.task}: {what}"
        else:
            text = f"{first if task.better == 'first' else second} is better on {task.task}: {what}"
    for name, row in ((first, task.first), (second, task.second)):
        if row.seeds_failed:
            reasons = failure_text(row.failures, row.failure_reasons)
            text += f"; {name} failed on {row.seeds_failed} of {row.seeds_total} seeds ({reasons})"
    if task.seconds_ratio is not None:
        text += f"; {first} takes {number(task.seconds_ratio)} times as long"
    return text
