"""Small records, and the files of a folder."""

from __future__ import annotations

from pathlib import Path

from trainoff.benchmarks.record import Curves, Record, TrialFacts


def record(trial_id: str = "0123456789abcdef", status: str = "ok", epochs: int = 0, seed: int = 1) -> Record:
    facts = TrialFacts(id=trial_id, suite="s", task="t", recipe="r", stage="final", seed=seed, setting={"batch": 32})
    curve = [0.123456789 * epoch for epoch in range(epochs)]
    return Record(trial=facts, status=status, curves=Curves(train_loss=curve, val_loss=curve, val_metric=curve))


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
