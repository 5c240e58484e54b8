"""``trainoff run --dry-run``: what a run would do."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

from trainoff.benchmarks.executors.choice import ExecutorChoice
from trainoff.benchmarks.known_records import KnownRecords
from trainoff.benchmarks.pairs import Pair, Rerun, checked_pairs, count_reasons, take_stock
from trainoff.benchmarks.runner import count_trials
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


def describe(suite: Suite, folder: Path, rerun: Rerun, choice: ExecutorChoice, as_json: bool = False) -> None:
    """Print the trials of each recipe, and how many of them the folder has. Nothing is written or moved."""
    known = KnownRecords.of(RunFolder(folder)) if folder.is_dir() else KnownRecords()
    pairs = checked_pairs(suite, known.records, rerun)
    aside = take_stock(suite, pairs, known.records, rerun)
    planned = [_plan(pair, folder) for pair in pairs]
    total = count_trials(suite)
    finished = sum(pair.finished for pair in planned)
    used = min(choice.local_workers(), total) if choice.is_local else choice.workers
    notes = known.complaints + [f"to be set aside: {line}" for line in count_reasons(aside)]
    if as_json:
        facts = {"suite": suite.name, "folder": str(folder), "workers": used, "trials": total, "finished": finished}
        facts |= {} if choice.is_local else {"executor": choice.name}
        print(json.dumps({**facts, "pairs": [asdict(pair) for pair in planned], "notes": notes}, indent=1))
        return
    where = f"{used} workers" if choice.is_local else choice.name
    print(f"suite {suite.name}: {total} trials on {where}, into {folder}; {finished} finished")
    for pair in planned:
        tuning = f"{pair.tuning} tuning + " if pair.tuning else ""
        print(f"  {pair.task}  {pair.recipe}: {tuning}{pair.final} final trials, {pair.finished} finished")
    for note in notes:
        print(note)


def _plan(pair: Pair, folder: Path) -> PlannedPair:
    setting, aside = pair.chosen(), folder / "set-aside"
    kept = {path.stem for path in aside.glob("*.json")} if aside.is_dir() else set()
    asked = chain(pair.tuning_trials(), () if setting is None else pair.final_trials(setting))
    finished = sum(t.id in pair.records or (t.id in kept and t.id not in pair.repeated) for t in asked)
    final = len(pair.final_seeds)
    return PlannedPair(pair.task.name, pair.recipe.name, pair.count - final, final, finished)
