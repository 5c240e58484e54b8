"""The report's parts on what was compared and how, and on how to do it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainoff.benchmarks.record import Record
from trainoff.benchmarks.secret_scan import without_values
from trainoff.leaderboards.board import Board
from trainoff.leaderboards.numbers import count_text, metric_text, plain, setting_text
from trainoff.leaderboards.report.description import Block, Bullets, Code, Heading, Paragraph, Table
from trainoff.leaderboards.standing import Standing
from trainoff.leaderboards.statistics import LEAST_COUNT
from trainoff.leaderboards.tuning_results import short_names

_LONGEST_SUITE = 200  # lines


def compared(board: Board, records: Sequence[Record]) -> list[Block]:
    """Tasks, recipes, seeds, tuning, protocol and hardware."""
    tasks = [_task_text(table.task, table.rows, records) for table in board.tables]
    facts = [*tasks, _seeds(board), _tuning(board), *_hardware(records)]
    protocol = (
        "Every choice is made on the validation split: the epoch that is reported, the values that tuning takes. The "
        "test split is evaluated once a trial, after training, and chooses nothing. For a given seed all recipes "
        "start from the same weights and see the same order. A recipe is held against the best one by a paired t "
        "test over shared seeds, Holm-corrected for the number of recipes; what it does not separate at 0.05 is "
        f"marked =. Intervals are of 95 %, Student's t, from {LEAST_COUNT} seeds on."
    )
    blocks: list[Block] = [Bullets([fact for fact in facts if fact]), Paragraph(protocol)]
    recipes, common = _recipes(board, records)
    if recipes:
        caption = "The recipes, in order of rank" + (f"; all with {common}" if common else "")
        blocks.append(Table(caption, ["recipe", "trained with"], recipes, [True, True]))
    return blocks


def _task_text(task: str, rows: Sequence[Standing], records: Sequence[Record]) -> str:
    config = next((r.trial.task_config for r in records if plain(r.trial.task) == task.rsplit(" [", 1)[0]), {})
    module, data = _choice_text(config.get("module")), _choice_text(config.get("data"))
    what = f"{module} on {data}" if module and data else ""
    budget = config.get("budget")
    parts = [f"judged by {metric_text(rows[0].metric)}" if rows else ""]
    if isinstance(budget, Mapping) and budget:
        parts.append("for " + " or ".join(f"{setting_text(v)} {key.replace('_', ' ')}" for key, v in budget.items()))
    if isinstance(config.get("target"), (int, float)):
        parts.append(f"target {setting_text(config['target'])} on validation")
    return f"Task {task}: {', '.join(filter(None, [what, *parts]))}."


def _choice_text(choice: Any) -> str:
    """``classifier (mlp)``, ``digits``; of a class by path its last name."""
    if isinstance(choice, str):
        return plain(choice)
    if not isinstance(choice, Mapping):
        return ""
    name = str(choice.get("name") or str(choice.get("class_path", "")).rsplit(".", 1)[-1])
    net = _choice_text(choice.get("net"))
    return plain(f"{name} ({net})" if net else name)


def _seeds(board: Board) -> str:
    totals = sorted({row.seeds_total for row in board.rows})
    if not totals:
        return ""
    count = count_text(totals[0], "seed") if len(totals) == 1 else f"{totals[0]} to {totals[-1]} seeds"
    finished, asked = sum(row.seeds_ok for row in board.rows), sum(row.seeds_total for row in board.rows)
    return f"Seeds: {count} a recipe and task; {finished:,} of {count_text(asked, 'final trial')} finished well."


def _tuning(board: Board) -> str:
    counts = sorted({row.tuning_trials for row in board.rows if row.tuning_trials})
    if not counts:
        return "Tuning: none; each recipe stands as it is written."
    each = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    grids: dict[str, set[str]] = {}
    for row in board.rows:
        for key, grid in row.grids.items():
            grids.setdefault(key, set()).update(map(setting_text, grid))
    names = short_names(list(grids))
    over = ", ".join(f"{names[key]} ({len(values)} values)" for key, values in list(grids.items())[:8])
    return f"Tuning: {each} trials a recipe on seeds of their own, over {over}; the best on validation was taken."


def _hardware(records: Sequence[Record]) -> list[str]:
    environments = [record.environment for record in records if record.environment is not None]
    if not environments:
        return []
    places = list(dict.fromkeys(
        f"{each.hardware or 'unknown'}{f' ({each.device})' if each.device else ''}, "
        f"{count_text(each.threads, 'thread')} a trial, {each.trials_beside} beside it"
        for each in environments
    ))  # fmt: skip
    versions: dict[str, set[str]] = {}
    for each in environments:
        for name, version in each.packages.items():
            versions.setdefault(name, set()).add(version)
    told = ", ".join(f"{plain(name)} {' / '.join(sorted(found))}" for name, found in versions.items())
    python = " / ".join(sorted({each.python for each in environments}))
    more = f" and {len(places) - 4} more" if len(places) > 4 else ""
    return [f"Hardware: {plain('; '.join(places[:4]))}{more}.", f"Software: Python {plain(python)}, {told}."]


def _recipes(board: Board, records: Sequence[Record]) -> tuple[list[list[str]], str]:
    """In order of rank what each recipe is trained with, and what all have in common."""
    parts: dict[str, dict[str, str]] = {}
    for record in records:
        parts.setdefault(plain(record.trial.recipe), _parts(record.trial.setting, set(record.trial.tuned)))
    ranks = [row.recipe.rsplit(" [", 1)[0] for row in board.rows]
    order = sorted(parts, key=lambda name: ranks.index(name) if name in ranks else len(ranks))
    several = len(parts) > 1
    common = {
        key: text
        for key, text in next(iter(parts.values()), {}).items()
        if several and all(other.get(key) == text for other in parts.values())
    }
    rows = [
        [name, ", ".join(f"{key} {text}" for key, text in parts[name].items() if key not in common) or "as all"]
        for name in order
    ]
    return rows, ", ".join(f"{key} {text}" for key, text in common.items())


def _parts(setting: Mapping[str, Any], tuned: set[str]) -> dict[str, str]:
    """``{"optimizer": "adamw (lr tuned)", "schedule": "cosine"}``: what is not empty."""
    parts = {}
    for key, value in setting.items():
        if value in (None, "", [], {}, False):
            continue
        is_list = isinstance(value, list)
        parts[key.replace("_", " ")] = "; ".join(
            _chosen(choice, f"{key}.{index}" if is_list else key, tuned)
            for index, choice in enumerate(value if is_list else [value])
        )
    return parts


def _chosen(choice: Any, path: str, tuned: set[str]) -> str:
    if not isinstance(choice, Mapping):
        return "tuned" if path in tuned else setting_text(choice)
    name = str(choice.get("name") or str(choice.get("class_path", "")).rsplit(".", 1)[-1])
    arguments = choice.get("init_args", choice)
    told = [
        f"{plain(str(key))} tuned" if f"{path}.{key}" in tuned else f"{plain(str(key))} {setting_text(value)}"
        for key, value in arguments.items()
        if key not in ("name", "class_path") and value is not None
    ]
    return plain(name) + (f" ({', '.join(told)})" if told else "")


def reproduction(board: Board, records: Sequence[Record], folder: Path) -> list[Block]:
    """Which commands do it again, from which commit, and the suite itself."""
    commits = sorted({record.environment.git for record in records if record.environment and record.environment.git})
    blocks: list[Block] = [Heading("How to reproduce")]
    lines = ["# with suite.yaml, which is below and in the board's artifact",
             "pip install trainoff", "trainoff run suite.yaml --out again", "trainoff board again"]  # fmt: skip
    blocks.append(Code("\n".join(lines)))
    if commits:
        told = ", ".join(commits[:4]) + (f" and {len(commits) - 4} more" if len(commits) > 4 else "")
        blocks.append(Paragraph(f"It was run from the commit {plain(told)}."))
    suite = folder / "suite.yaml"
    try:
        text = suite.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return blocks
    kept = text.splitlines()
    if len(kept) > _LONGEST_SUITE:
        blocks.append(Paragraph(f"The first {_LONGEST_SUITE} of the {len(kept):,} lines of suite.yaml:"))
    blocks.append(Code(without_values("\n".join(kept[:_LONGEST_SUITE])), "yaml"))
    return blocks
