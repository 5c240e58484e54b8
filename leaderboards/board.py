"""The board: records to standings, task by task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from trainoff.benchmarks.record import Record
from trainoff.errors import UserError, closest
from trainoff.leaderboards.asked import Asked, unfinished_text
from trainoff.leaderboards.candidates import DEFAULT_COST, is_candidate
from trainoff.leaderboards.notes import board_notes, notes_of
from trainoff.leaderboards.numbers import plain, setting_text
from trainoff.leaderboards.ranking import ranked
from trainoff.leaderboards.speed_up import with_speed_ups
from trainoff.leaderboards.standing import Standing
from trainoff.leaderboards.summary import Group, summarise
from trainoff.leaderboards.task_rows import as_rows
from trainoff.leaderboards.verdict import verdict_of, verdict_over_tasks

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped]


@dataclass(frozen=True)
class TaskTable:
    """The standings of one task.

    Args:
        task: The task's label: its name, with more where two tasks bear it.
        metric: Name of its metric.
        mode: ``max`` where more is better, else ``min``.
        rows: One a recipe, in order of rank.
        notes: What a reader has to know beside the numbers, a sentence each.
    """

    task: str
    metric: str
    mode: str
    rows: tuple[Standing, ...]
    notes: tuple[str, ...] = ()

    def verdict(self) -> str:
        """Which recipe is best, by how much, and how sure that is, in one sentence."""
        return verdict_of(self.rows)


@dataclass(frozen=True)
class Board:
    """Standings of recipes, by task. Test metrics decide the order of the rows and nothing else.

    Args:
        tables: One a task.
        problems: Files that could not be read, and why, a line each.
        notes: What concerns all tasks.
        unfinished: How much is missing of what the suites ask for, in a sentence; empty where nothing is.
    """

    tables: tuple[TaskTable, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    unfinished: str = ""

    @classmethod
    def from_records(
        cls,
        records: Iterable[Record],
        problems: Sequence[str] = (),
        asked: Asked | None = None,
        costs: Mapping[str, str] | None = None,
    ) -> Board:
        """Make the standings.

        Final-stage records make the rows; tune-stage ones say what a value was chosen from. Of several records with
        one id the first counts, unless it is of an interrupted trial and a later one is not.

        Args:
            records: Of one or more suites.
            problems: What could not be read, to be said on the board.
            asked: Of each suite, task and recipe the final seeds; what is missing of them is said.
            costs: By the name of a suite that is an architecture search: ``parameters`` (where it is not said),
                ``flops`` or ``latency``. Its candidates make one table.
        """
        asked = asked or {}
        unique: dict[str, Record] = {}
        repeated = 0
        for record in records:
            known = unique.get(record.trial.id)
            repeated += known is not None
            if known is None or (known.status == "interrupted" and record.status != "interrupted"):
                unique[record.trial.id] = record
        tasks = _tasks(as_rows(unique.values()))
        tables = [_table(label, metric, found, asked, costs or {}) for label, metric, found in tasks]
        tables.sort(key=lambda table: table.task)
        rows = [row for table in tables for row in table.rows]
        notes = board_notes([table.task for table in tables], rows, repeated)
        unfinished = unfinished_text(asked, unique.values())
        return cls(tuple(tables), tuple(map(plain, problems)), notes, unfinished)

    @property
    def rows(self) -> tuple[Standing, ...]:
        """All rows, task by task in order of rank."""
        return tuple(row for table in self.tables for row in table.rows)

    def table(self, task: str) -> TaskTable:
        """The standings of a task.

        Raises:
            UserError: For an unknown task.
        """
        for table in self.tables:
            if table.task == task:
                return table
        names = [table.task for table in self.tables]
        raise UserError(f"no task is called '{plain(task)}'{closest(task, names)}; there are {', '.join(names[:20])}")

    def verdict(self) -> str:
        """Which recipe is best and how sure that is, in one sentence; over several tasks, who leads how often.

        A second sentence says what is unfinished, where anything is.
        """
        alone = len(self.tables) == 1
        sentence = self.tables[0].verdict() if alone else verdict_over_tasks([table.rows for table in self.tables])
        return f"{sentence} {self.unfinished}".rstrip()

    def to_dicts(self) -> list[dict[str, Any]]:
        """The rows as flat plain data; see :meth:`Standing.to_dict`."""
        return [row.to_dict() for row in self.rows]

    def to_pandas(self) -> pandas.DataFrame:
        """One row a recipe and task, with the columns of :meth:`Standing.to_dict`."""
        import pandas

        return pandas.DataFrame(self.to_dicts())

    def __str__(self) -> str:
        from trainoff.leaderboards.render import render

        return render(self, "terminal", colour=False)

    def _repr_html_(self) -> str:
        from trainoff.leaderboards.render.html_page import fragment

        return fragment(self)


@dataclass(frozen=True)
class _Metric:
    name: str
    mode: str


def _tasks(records: Iterable[Record]) -> list[tuple[str, _Metric, list[Record]]]:
    """Records by task: of one name, configuration, data and metric. Equal names with other contents stay apart."""
    contents: dict[tuple[str, bytes, str], list[Record]] = {}
    for record in records:
        trial = record.trial
        contents.setdefault((trial.task, _canonical(trial.task_config), trial.data_digest), []).append(record)
    found: list[tuple[str, _Metric, list[Record]]] = []
    for (name, _, _), members in contents.items():
        by_metric: dict[_Metric, list[Record]] = {}
        unknown: list[Record] = []
        for record in members:
            metric = _metric_of(record)
            if metric is None:
                unknown.append(record)
            else:
                by_metric.setdefault(metric, []).append(record)
        # A trial that crashed early may know no metric: it is one of the task's trials all the same.
        by_metric = by_metric or {_Metric("metric", "max"): []}
        for position, (metric, of_metric) in enumerate(by_metric.items()):
            found.append((name, metric, of_metric + (unknown if position == 0 else [])))
    labels = _distinct([name for name, _, _ in found], [members[0].trial.suite for _, _, members in found], "suite ")
    return [(label, metric, members) for label, (_, metric, members) in zip(labels, found, strict=True)]


def _metric_of(record: Record) -> _Metric | None:
    if record.quality is not None:
        return _Metric(record.quality.metric, record.quality.mode)
    name, mode = record.trial.task_config.get("metric"), record.trial.task_config.get("mode")
    return _Metric(name, mode) if isinstance(name, str) and mode in ("max", "min") else None


def _table(task: str, metric: _Metric, records: Sequence[Record], asked: Asked, costs: Mapping[str, str]) -> TaskTable:
    cost = costs.get(records[0].trial.suite, DEFAULT_COST) if is_candidate(records[0]) else ""
    tuning: dict[str, list[Record]] = {}
    final: dict[tuple[str, bytes, bytes], dict[int, Record]] = {}
    doubled = 0
    for record in records:
        trial = record.trial
        if trial.stage == "tune":
            tuning.setdefault(trial.recipe, []).append(record)
            continue
        key = (trial.recipe, _canonical(trial.setting), _canonical(trial.source_digests))
        by_seed = final.setdefault(key, {})
        known = by_seed.get(trial.seed)
        doubled += known is not None
        if known is None or (known.status == "interrupted" and record.status != "interrupted"):
            by_seed[trial.seed] = record
    seeds = {seed for by_seed in final.values() for seed in by_seed}
    seeds.update(*(asked.get(key, ()) for key in {(r.trial.suite, r.trial.task, r.trial.recipe) for r in records}))
    names = [key[0] for key in final]
    tuned = [_tuned_text(next(iter(by_seed.values()))) for by_seed in final.values()]
    target = next((value for record in records if (value := _target_of(record)) is not None), None)
    groups = [
        Group(by_seed[min(by_seed)].trial.suite, task, label, metric.name, metric.mode, target, seeds,
              [by_seed[seed] for seed in sorted(by_seed)], tuning.get(name, []), cost)
        for label, name, by_seed in zip(_distinct(names, tuned, ""), names, final.values(), strict=True)
    ]  # fmt: skip
    # A recipe that has only been tuned so far is a row without a score, not an absent one. Nothing is missing of a
    # candidate that its search did not choose.
    waiting = set() if cost else seeds
    groups += [
        Group(members[0].trial.suite, task, plain(name), metric.name, metric.mode, target, waiting, [], members, cost)
        for name, members in tuning.items()
        if name not in names
    ]
    settings = [group.final[0].trial.setting if group.final else None for group in groups]
    rows = ranked(with_speed_ups([summarise(group) for group in groups], settings))
    several = sorted({plain(name) for name in names if names.count(name) > 1})
    return TaskTable(task, metric.name, metric.mode, rows, notes_of(rows, several, doubled))


def _target_of(record: Record) -> float | None:
    target = record.trial.task_config.get("target")
    return target if isinstance(target, (int, float)) and not isinstance(target, bool) else None


def _distinct(names: Sequence[str], additions: Sequence[str], prefix: str) -> list[str]:
    """Labels that differ: a name that stands once is its own; others get what tells them apart, or a number."""
    labels = []
    for index, name in enumerate(names):
        rivals = [additions[other] for other, rival in enumerate(names) if rival == name]
        label = plain(name)
        if len(rivals) > 1:
            tells_apart = additions[index] and rivals.count(additions[index]) == 1
            label += f" [{prefix}{additions[index]}]" if tells_apart else f" [{names[: index + 1].count(name)}]"
        labels.append(label)
    return labels


def _tuned_text(record: Record) -> str:
    return ", ".join(f"{plain(key)}={setting_text(value)}" for key, value in record.trial.tuned.items())


def _canonical(value: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(value, order="deterministic")
