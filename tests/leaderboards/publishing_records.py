"""Run folders for publishing: records with curves, under their own ids, and the suite beside them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from record_making import record

from trainoff.benchmarks.record import Curves, Failure, Record, to_json

SUITE = """\
name: a-suite
seeds: {tune: 1, final: 3}
tasks:
  digits: {module: classifier, data: digits, metric: accuracy, budget: {epochs: 4}}
recipes:
  adamw: {}
  sgd: {}
"""


def with_curves(made: Record, epochs: int = 4) -> Record:
    """The record with curves that no two trials share."""
    shift = made.trial.seed / 100 + (0.05 if made.trial.recipe == "sgd" else 0.0)
    rates = made.trial.tuned.get("optimizer.lr", 0.01)
    made.curves = Curves(
        train_loss=[math.exp(-epoch / 2) + shift for epoch in range(epochs)],
        val_loss=[math.exp(-epoch / 3) + shift for epoch in range(epochs)],
        val_metric=[0.5 + 0.1 * epoch - shift for epoch in range(epochs)],
        learning_rate=[rates * (1 - epoch / epochs) for epoch in range(epochs)],
        gradient_norm=[None, *(1.0 + shift for _ in range(epochs - 1))],
        weight_norm=[5.0 + epoch for epoch in range(epochs)],
        train_seconds=[0.5 * (epoch + 1) for epoch in range(epochs)],
        steps=[17 * (epoch + 1) for epoch in range(epochs)],
    )
    return made


def records() -> list[Record]:
    """Two recipes on three seeds, with a tuning; one trial diverged."""
    made = []
    for recipe, level in (("adamw", 0.95), ("sgd", 0.9)):
        made += [_trial(recipe, 0, level - rate, stage="tune", tuned={"optimizer.lr": rate}) for rate in (0.01, 0.1)]
        for seed in (1, 2, 3):
            status = "diverged" if (recipe, seed) == ("sgd", 3) else "ok"
            made.append(_trial(recipe, seed, level - seed / 500, status=status, tuned={"optimizer.lr": 0.01}))
    return made


def _trial(recipe: str, seed: int, test: float, **given: Any) -> Record:
    stage, tuned = given.get("stage", "final"), given["tuned"]
    identity = f"{recipe}-{stage}-{seed}-{tuned['optimizer.lr']}".replace(".", "")
    setting = {"optimizer": {"name": recipe, "lr": tuned["optimizer.lr"]}, "batch": 64}
    made = record(recipe, seed, test, identity=identity, setting=setting, **given)
    if made.status != "ok":
        made.error = Failure("Diverged", "the loss is not finite", "Traceback (most recent call last): ...")
    return with_curves(made, 2 if made.status != "ok" else 4)


def many(count: int) -> list[Record]:
    """So many final trials of two recipes."""
    return [
        with_curves(
            record(recipe, seed, 0.9 + seed / 10_000, identity=f"{recipe}-{seed}", setting={"optimizer": recipe})
        )
        for recipe in ("adamw", "sgd")
        for seed in range(1, count // 2 + 1)
    ]


def run_folder(folder: Path, made: list[Record] | None = None) -> Path:
    """Written as a run leaves it."""
    (folder / "records").mkdir(parents=True)
    for each in records() if made is None else made:
        (folder / "records" / f"{each.trial.id}.json").write_bytes(to_json(each))
    (folder / "suite.yaml").write_text(SUITE)
    return folder
