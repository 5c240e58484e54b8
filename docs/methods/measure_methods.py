"""Make measured.json from run folders: `python docs/methods/measure_methods.py runs/method-cards ...`.

The folders are those of the suites method-cards and method-cards-residual. Of each method and task the file has its
paired changes against the baseline; make_method_cards.py writes the pages from it.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from trainoff.benchmarks.record import Record
from trainoff.benchmarks.store import RunFolder
from trainoff.leaderboards.statistics import Estimate, estimate, paired_test

MEASURED = Path(__file__).with_name("measured.json")
BASELINE = "baseline"
PACKAGES = ("torch", "lightning", "pytorch_optimizer")


def test_metric(record: Record) -> float | None:
    """The headline: the test metric at the epoch of the best validation metric."""
    return None if record.quality is None else record.quality.best.test.metric


def gap(record: Record) -> float | None:
    """Train minus test metric at the last epoch."""
    return record.overfitting.gap_metric


def log_seconds(record: Record) -> float | None:
    """Natural logarithm of the training seconds: differences of it are ratios."""
    seconds = record.cost.train_seconds
    return math.log(seconds) if seconds else None


def change(
    method: Iterable[Record], baseline: Iterable[Record], value: Callable[[Record], float | None]
) -> Estimate | None:
    """Mean of method minus baseline over the seeds that both finished, with its 95 % t interval."""
    test = paired_test(_by_seed(method, value), _by_seed(baseline, value))
    return None if test is None else test.difference


def _by_seed(records: Iterable[Record], value: Callable[[Record], float | None]) -> dict[int, float]:
    values = {record.trial.seed: value(record) for record in records if record.status == "ok"}
    return {seed: found for seed, found in values.items() if found is not None and math.isfinite(found)}


def measure(records: Iterable[Record]) -> dict[str, Any]:
    """What the pages need, as plain data with rounded numbers.

    Args:
        records: Of the suites' trials; tuning trials are counted, final ones are compared.
    """
    final: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    tried: Counter[tuple[str, str]] = Counter()
    for record in records:
        if record.trial.stage == "final":
            final[record.trial.task][record.trial.recipe].append(record)
        else:
            tried[record.trial.task, record.trial.recipe] += 1
    methods: dict[str, dict[str, Any]] = defaultdict(dict)
    tasks = {}
    for task, by_recipe in sorted(final.items()):
        baseline = by_recipe.pop(BASELINE)
        tasks[task] = _task_facts(baseline, tried[task, BASELINE])
        for recipe, found in sorted(by_recipe.items()):
            methods[recipe][task] = _method_facts(found, baseline, tried[task, recipe])
    return {"tasks": tasks, "methods": dict(sorted(methods.items()))}


def _task_facts(baseline: list[Record], settings: int) -> dict[str, Any]:
    first = baseline[0]
    assert first.environment is not None
    assert first.quality is not None
    versions = first.environment.packages
    packages = {name: versions[name].partition("+")[0] for name in PACKAGES if name in versions}
    return {
        "config": first.trial.task_config,
        "metric": first.quality.metric,
        "mode": first.quality.mode,
        "baseline": _rounded(estimate(_by_seed(baseline, test_metric).values())),
        "tuned": first.trial.tuned,
        "settings": settings,
        "hardware": first.environment.hardware,
        "trials_beside": first.environment.trials_beside,
        "packages": packages,
    }


def _method_facts(found: list[Record], baseline: list[Record], settings: int) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "metric": _rounded(change(found, baseline, test_metric)),
        "gap": _rounded(change(found, baseline, gap)),
        "log_seconds": _rounded(change(found, baseline, log_seconds)),
        "tuned": found[0].trial.tuned,
        "settings": settings,
    }
    failed = Counter(record.status for record in found if record.status != "ok")
    if failed:
        facts["failed"] = dict(failed)
    return facts


def _rounded(value: Estimate | None) -> list[float | int | None] | None:
    """Mean, margin and number of seeds."""
    if value is None:
        return None
    return [round(value.mean, 6), None if value.margin is None else round(value.margin, 6), value.count]


def to_json(measured: Mapping[str, Any]) -> str:
    """One line a method and task, so that a change of one is a change of one line."""
    lines = ["{", ' "tasks": {']
    lines.append(",\n".join(f"  {json.dumps(task)}: {json.dumps(facts)}" for task, facts in measured["tasks"].items()))
    lines += [" },", ' "methods": {']
    blocks = []
    for method, tasks in measured["methods"].items():
        rows = ",\n".join(f"   {json.dumps(task)}: {json.dumps(facts)}" for task, facts in tasks.items())
        blocks.append(f"  {json.dumps(method)}: {{\n{rows}\n  }}")
    lines += [",\n".join(blocks), " }", "}"]
    return "\n".join(lines) + "\n"


def main(folders: list[str]) -> None:
    """Read the folders' records and write measured.json."""
    records: list[Record] = []
    for folder in folders:
        found, problems = RunFolder(Path(folder)).read_all()
        for problem in problems:
            print(problem, file=sys.stderr)
        records += found.values()
    measured = measure(records)
    MEASURED.write_text(to_json(measured), encoding="utf-8")
    print(f"{MEASURED.name}: {len(measured['methods'])} methods on {', '.join(measured['tasks'])}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
