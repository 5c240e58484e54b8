"""``trainoff run --dry-run``: what a run would do."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from trainoff.benchmarks.pairs import Pair, Rerun, checked_pairs, count_reasons, take_stock
from trainoff.benchmarks.runner import count_trials, default_workers
from trainoff.benchmarks.store import RunFolder
from trainoff.benchmarks.suite import Suite


@dataclass(frozen=True)
class PlannedPair:
    """What a run would do for one recipe on one task.

    Args:
        task: On which.
        recipe: By which.
        tuning: Trials that a setting is chosen from.
        final: Trials that the standings come from.
        finished: Of both, those that the run folder has; of the final ones only where the setting is chosen.
    """

    task: str
    recipe: str
    tuning: int
    final: int
    finished: int


def describe(suite: Suite, folder: Path, rerun: Rerun, workers: int | None = None, as_json: bool = False) -> None:
    """Print the trials of each recipe, and how many of them the folder has. Nothing is written or moved."""
    records, problems = RunFolder(folder).read_all() if folder.is_dir() else ({}, [])
    pairs = checked_pairs(suite, records, rerun)
    aside = take_stock(suite, pairs, records, rerun)
    planned = [_plan(pair, folder) for pair in pairs]
    total = count_trials(suite)
    finished = sum(pair.finished for pair in planned)
    used = min(workers or default_workers(), total)
    notes = [f"{problem.path.name} is skipped: {problem.reason}" for problem in problems]
    notes += [f"to be set aside: {line}" for line in count_reasons(aside)]
    if as_json:
        facts = {"suite": suite.name, "folder": str(folder), "workers": used, "trials": total, "finished": finished}
        print(json.dumps({**facts, "pairs": [asdict(pair) for pair in planned], "notes": notes}, indent=1))
        return
    print(f"suite {suite.name}: {total} trials on {used} workers, into {folder}; {finished} finished")
    for pair in planned:
        tuning = f"{pair.tuning} tuning + " if pair.tuning else ""
        print(f"  {pair.task}  {pair.recipe}: {tuning}{pair.final} final trials, {pair.finished} finished")
    for note in notes:
        print(note)


def _plan(pair: Pair, folder: Path) -> PlannedPair:
    tuning = [trial for trials in pair.tuning() for trial in trials]
    asked = [trial.id for trial in [*tuning, *(pair.final() or [])]]
    finished = sum(
        key in pair.records or (key not in pair.repeated and (folder / "set-aside" / f"{key}.json").is_file())
        for key in asked
    )
    return PlannedPair(pair.task.name, pair.recipe.name, len(tuning), len(pair.final_seeds), finished)
