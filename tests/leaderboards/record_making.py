"""Synthetic records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainoff.benchmarks.record import (
    Compression,
    Cost,
    Environment,
    Failure,
    Overfitting,
    Quality,
    Record,
    Scores,
    Splits,
    TrialFacts,
    to_json,
)


def environment(**changes: Any) -> Environment:
    given: dict[str, Any] = {"hardware": "a processor", "device": "cpu", "trials_beside": 1, **changes}
    return Environment(packages={"torch": "2.13"}, python="3.12", platform="Linux", **given)


def record(
    recipe: str = "adamw",
    seed: int = 1,
    test: float | None = 0.9,
    *,
    task: str = "digits",
    stage: Any = "final",
    status: Any = "ok",
    seconds: float | None = 3.0,
    tuned: dict[str, Any] | None = None,
    mode: Any = "max",
    metric: str = "accuracy",
    identity: str = "",
    place: Environment | None = None,
    known: bool = True,
    reached: float | None = 1.5,
    loss_gap: float = 0.25,
    compression: Compression | None = None,
    **facts: Any,
) -> Record:
    """One trial's record; a failed one has neither scores nor times."""
    tuned = tuned or {}
    ok = status == "ok"
    splits = Splits(Scores((test or 0) + 0.02, 0.1), Scores((test or 0) + 0.001, 0.3), Scores(test, 0.35))
    quality = Quality(metric, mode, 8, splits, splits) if ok else Quality(metric, mode)
    suffix = "" if not tuned else f"-{sorted(tuned.items())}"
    given: dict[str, Any] = {
        "setting": {"optimizer": {"name": recipe, **tuned}},
        "task_config": {"metric": metric, "mode": mode, "target": 0.8},
        "suite": "a-suite",
        **facts,
    }
    return Record(
        trial=TrialFacts(
            id=identity or f"{task}-{recipe}{suffix}-{stage}-{seed}",
            task=task,
            recipe=recipe,
            stage=stage,
            seed=seed,
            tuned=tuned,
            **given,
        ),
        status=status,
        error=None if ok else Failure("Diverged", "the loss is not finite"),
        environment=place or environment(),
        quality=quality if known else None,
        overfitting=Overfitting(0.02, loss_gap, 6, 0.05) if ok else Overfitting(),
        cost=Cost(
            train_seconds=seconds,
            epochs=10,
            samples_per_second=9000.0,
            seconds_to_target=reached,
            peak_memory_bytes=300 * 2**20,
        )
        if ok
        else Cost(),
        compression=compression,
    )


def records_of(recipe: str, scores: list[float | None], **given: Any) -> list[Record]:
    """One final record a score, seeds from 1; ``None`` is a diverged trial."""
    return [
        record(recipe, seed, score, **given) if score is not None else record(recipe, seed, status="diverged", **given)
        for seed, score in enumerate(scores, 1)
    ]


def write_run(folder: Path, records: list[Record]) -> Path:
    (folder / "records").mkdir(parents=True)
    for number, each in enumerate(records):
        (folder / "records" / f"{number:05d}.json").write_bytes(to_json(each))
    return folder
