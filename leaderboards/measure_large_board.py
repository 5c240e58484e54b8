"""How long a large board takes: ``python -m trainoff.leaderboards.measure_large_board [RECORDS]``.

Writes synthetic records of a realistic size (20 epochs of curves) into a temporary folder, ten recipes and ten seeds
a task, and prints the seconds of reading and of each rendering, the renderings' sizes and the peak memory.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from trainoff.benchmarks.record import (
    Cost,
    Curves,
    Environment,
    Overfitting,
    Quality,
    Record,
    Scores,
    Splits,
    TrialFacts,
    to_json,
)
from trainoff.leaderboards import read_board
from trainoff.leaderboards.render import FORMATS, render

_RECIPES = 10
_SEEDS = 10
_EPOCHS = 20


def synthetic_record(index: int, generator: random.Random) -> Record:
    """The ``index``-th record: seed, recipe and task are its digits."""
    seed, recipe, task = index % _SEEDS, index // _SEEDS % _RECIPES, index // (_SEEDS * _RECIPES)

    def around(value: float, spread: float) -> float:
        return generator.gauss(value, spread)

    def curve() -> list[float | None]:
        return [around(0.5, 0.1) for _ in range(_EPOCHS)]

    test = around(0.9 + recipe * 0.005, 0.004)
    scores = Splits(Scores(test + 0.02, 0.1), Scores(test + 0.001, 0.3), Scores(test, 0.31))
    failed = generator.random() < 0.005
    return Record(
        trial=TrialFacts(
            id=f"{index:016x}",
            suite="synthetic",
            task=f"task-{task:03d}",
            recipe=f"recipe-{recipe}",
            stage="final",
            seed=seed,
            setting={"optimizer": {"name": "adamw", "lr": 0.001 * (recipe + 1)}, "batch": 64},
            tuned={"optimizer.lr": 0.001 * (recipe + 1)},
            task_config={"metric": "accuracy", "mode": "max", "budget": {"epochs": _EPOCHS}, "target": 0.9},
        ),
        status="diverged" if failed else "ok",
        environment=Environment({"torch": "2.13"}, "3.12", "Linux", "a processor", "cpu", trials_beside=1),
        quality=Quality("accuracy", "max") if failed else Quality("accuracy", "max", 15, scores, scores),
        overfitting=Overfitting(around(0.02, 0.002), around(0.2, 0.02), 12, around(0.05, 0.01)),
        cost=Cost(
            around(3 + recipe, 0.1), 9.0, 400, _EPOCHS, 9000.0, 0.01, 0.02, around(2, 0.2), 200, 10, 300 * 2**20
        ),
        curves=Curves(curve(), curve(), curve(), curve(), curve(), curve(), curve(), list(range(_EPOCHS))),
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="How long a large board takes")
    parser.add_argument("records", nargs="?", type=int, default=10_000)
    count = parser.parse_args().records
    with tempfile.TemporaryDirectory() as folder:
        records = Path(folder) / "records"
        records.mkdir()
        generator = random.Random(0)
        for index in range(count):
            record = synthetic_record(index, generator)
            (records / f"{record.trial.id}.json").write_bytes(to_json(record))
        size = sum(path.stat().st_size for path in records.iterdir())
        start = time.perf_counter()
        board = read_board(folder)
        print(f"read      {time.perf_counter() - start:7.2f} s  {count:,} records, {size / 2**20:.1f} MiB")
        for name in FORMATS:
            start = time.perf_counter()
            text = render(board, name)
            print(f"{name:<9} {time.perf_counter() - start:7.2f} s  {len(text.encode()):,} bytes")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"memory    {peak / 2**20:7.0f} MiB at most")


if __name__ == "__main__":
    main()
