"""The report's part on hyperparameters: which values were tried, and what validation said of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from trainoff.benchmarks.record import Record
from trainoff.leaderboards.board import TaskTable
from trainoff.leaderboards.numbers import count_text, plain
from trainoff.leaderboards.publishing.run_content import metric_of
from trainoff.leaderboards.report.description import Block, Figure, Heading, Panels, Paragraph, Parallel
from trainoff.leaderboards.report.parallel_coordinates import Path, is_log, parallel_plot
from trainoff.leaderboards.tuning_results import short_names

_MOST_AXES = 6
_MOST_PATHS = 400


def hyperparameters(
    table: TaskTable, records: Sequence[Record], groups: list[str], styles: Mapping[str, int], identity: str
) -> list[Block]:
    """A panel over the tuned values of the tuning trials; without tuning, over what the recipes differ in."""
    tuning = [record for record in records if record.trial.stage == "tune"]
    shown = tuning or [record for record in records if record.trial.stage == "final"]
    is_tuned = any(record.trial.tuned for record in shown)
    values = {
        record.trial.id: dict(record.trial.tuned) if is_tuned else flat(record.trial.setting) for record in shown
    }
    keys = _varying(values.values())
    if not keys:
        return []
    metric = metric_of(shown[0].trial)
    names = short_names(keys)
    scored = [(record, score) for record in shown if (score := _score(record)) is not None]
    paths = [_path(record, values[record.trial.id], styles, score) for record, score in scored]
    recipes = {record.trial.recipe for record, _ in scored}
    axes = {"recipe": "recipe"} if len(recipes) > 1 else {}
    axes |= names
    figures = []
    if len(paths) > 1:
        caption = (
            f"{'What tuning tried' if tuning else 'What the recipes differ in'}. One line a trial, in its recipe's "
            f"colour, through its values to its best validation {metric}; choices are made on validation."
        )
        drawing = parallel_plot(axes, f"val {metric}", paths[:_MOST_PATHS], f"{identity}h")
        figures.append(Figure(drawing, caption, "Parallel coordinates"))
    prefix = "tuned" if is_tuned else "setting"
    logs = [is_log([each[key] for each in values.values() if key in each]) for key in keys]
    panel = Parallel(
        f"Hyperparameters and validation {metric}",
        [*(["recipe"] if len(recipes) > 1 else []), *(f"{prefix}.{key}" for key in keys)],
        [*([False] if len(recipes) > 1 else []), *logs],
        f"best/val/{metric}",
    )
    stage = "tune" if tuning else "final"
    trial = shown[0].trial
    failed = len(shown) - len(scored)
    text = f"{count_text(len(shown), 'tuning trial' if tuning else 'trial')}, {failed} of them without a score."
    name = f"{table.task}, {'tuning' if tuning else 'final'} trials"
    return [
        Heading("Hyperparameters", 2),
        *([Paragraph(text)] if failed else []),
        Panels(name, groups, stage, trial.suite, [panel], figures),
    ]


def flat(setting: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A setting's scalars by dotted key; lists, which W&B cannot address into, as text."""
    found: dict[str, Any] = {}
    for key, value in setting.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        elif isinstance(value, (str, int, float, bool)):
            found[f"{prefix}{key}"] = value
    return found


def _varying(values: Any) -> list[str]:
    """The keys that take several values, those that most have first; at most as many as a plot can hold."""
    seen: dict[str, set[str]] = {}
    having: dict[str, int] = {}
    for each in values:
        for key, value in each.items():
            seen.setdefault(key, set()).add(repr(value))
            having[key] = having.get(key, 0) + 1
    varying = [key for key, texts in seen.items() if len(texts) > 1]
    return sorted(varying, key=lambda key: -having[key])[:_MOST_AXES]


def _path(record: Record, values: Mapping[str, Any], styles: Mapping[str, int], score: float) -> Path:
    recipe = plain(record.trial.recipe)
    return Path(recipe, _style(recipe, styles), {**values, "recipe": recipe}, score)


def _score(record: Record) -> float | None:
    value = record.quality.best.val.metric if record.status == "ok" and record.quality is not None else None
    return value if value is not None and math.isfinite(value) else None


def _style(recipe: str, styles: Mapping[str, int]) -> int:
    if recipe in styles:
        return styles[recipe]
    return next((place for row, place in styles.items() if row.startswith(f"{recipe} [")), 0)
