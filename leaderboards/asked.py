"""What a run folder's suite asks for, so that a board can say what is missing. Names suffice: no recipe is read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trainoff.benchmarks.record import Record
from trainoff.benchmarks.suite_yaml import read_yaml
from trainoff.errors import UserError
from trainoff.leaderboards.numbers import count_text, plain

# Of a suite, a task and a recipe by name: the final seeds.
Asked = dict[tuple[str, str, str], frozenset[int]]


def suite_of(folder: Path) -> Mapping[str, Any] | None:
    """What stands in ``DIR/suite.yaml``; None where there is no such file.

    Raises:
        UserError: Where it cannot be read.
    """
    path = folder / "suite.yaml"
    if not os.path.lexists(path):
        return None
    suite = read_yaml(path).data
    return suite if isinstance(suite, Mapping) else {}


def searched_cost(suite: Mapping[str, Any] | None) -> dict[str, str]:
    """By the suite's name the cost that its architecture search holds accuracy against; empty where it says none."""
    facts = suite or {}
    name, search = facts.get("name"), facts.get("search")
    cost = search.get("cost") if isinstance(search, Mapping) else None
    return {name: cost} if isinstance(name, str) and isinstance(cost, str) else {}


def asked_by(folder: Path) -> Asked:
    """The final trials that ``DIR/suite.yaml`` asks for; none where there is no such file.

    Raises:
        UserError: Where it is no suite.
    """
    return asked_of(suite_of(folder), folder / "suite.yaml")


def asked_of(facts: Mapping[str, Any] | None, path: Path) -> Asked:
    """The final trials that a suite asks for.

    Args:
        facts: What stands in it; None where there is no such file.
        path: Of its file, for messages.

    Raises:
        UserError: Where it is no suite.
    """
    if facts is None:
        return {}
    name, tasks, recipes, seeds = (facts.get("name"), facts.get("tasks"), facts.get("recipes"), _final_seeds(facts))
    if not isinstance(name, str) or not isinstance(tasks, Mapping) or not isinstance(recipes, Mapping) or not seeds:
        raise UserError("is no suite; what it asks for is unknown", str(path))
    trained = [task for task, content in tasks.items() if not _is_lost(content)]
    return {(name, task, recipe): seeds for task in trained for recipe in recipes}


def _is_lost(task: Any) -> bool:
    """Whether it is a candidate of a search that the search did not choose."""
    candidate = task.get("candidate") if isinstance(task, Mapping) else None
    return isinstance(candidate, Mapping) and not candidate.get("final")


def _final_seeds(suite: Mapping[str, Any]) -> frozenset[int]:
    """As a suite's own reader makes them; that one needs the registries."""
    seeds = suite.get("seeds", 3)
    tune, final = (seeds.get("tune", 1), seeds.get("final", 3)) if isinstance(seeds, Mapping) else (1, seeds)
    if not isinstance(tune, int) or not isinstance(final, int):
        return frozenset()
    return frozenset(range(tune, tune + final))


def merged(folders: Iterable[Asked]) -> Asked:
    """What several folders ask for together."""
    total: Asked = {}
    for asked in folders:
        for key, seeds in asked.items():
            total[key] = total[key] | seeds if key in total else seeds
    return total


def unfinished_text(asked: Asked, records: Iterable[Record]) -> str:
    """``Unfinished: 2 of 6 final trials have a record``, and of which recipes there is none; empty where all have.

    A failed trial has ended; an interrupted one will run again.
    """
    ended: dict[tuple[str, str, str], set[int]] = {}
    for record in records:
        trial = record.trial
        if trial.stage == "final" and record.status != "interrupted":
            ended.setdefault((trial.suite, trial.task, trial.recipe), set()).add(trial.seed)
    total = sum(map(len, asked.values()))
    missing = sum(len(seeds - ended.get(key, set())) for key, seeds in asked.items())
    if not missing:
        return ""
    absent = [
        f"{plain(recipe)} on {plain(task)}" for suite, task, recipe in asked if (suite, task, recipe) not in ended
    ]
    text = f"Unfinished: {total - missing:,} of {count_text(total, 'final trial')} have a record"
    if absent:
        text += f"; none yet of {', '.join(absent[:6])}" + (f" and {len(absent) - 6} more" if len(absent) > 6 else "")
    return text + "."
