"""What a trial costs beside its training: making it, sending it, keeping its record; and planning many.

``python -m trainoff.benchmarks.executors.measure_executors`` (or ``make bench-executors``) prints two tables. The
first is of suites of 1,000, 10,000 and 100,000 trials: seconds to read the suite, to check it, until its first trial
is made, and to make them all; and what memory that took. The second is of runs whose trials train nothing and return
a record at once: trials a second, and milliseconds a trial, from an empty folder to the last record on disk.

``python -m trainoff.benchmarks.executors.measure_executors 10000 local ray`` takes the number of trials and the
executors. SLURM's is submitit's local one: processes of this machine in place of jobs, each with a tenth of all.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainoff.benchmarks.record import Quality, Record
from trainoff.benchmarks.sent_trial import SentTrial

_EXECUTORS = ("local", "ray", "slurm")
_SIZES = (1_000, 10_000, 100_000)


def suite_data(trials: int, settings: int) -> dict[str, Any]:
    """A suite of about so many trials: ten recipes of so many settings each, on as many seeds as that takes."""
    rate: Any = 0.01 if settings == 1 else {"tune": {"min": 1e-4, "max": 1.0, "log": True, "points": settings}}
    recipes = {
        f"sgd-{number}": {"optimizer": {"name": "sgd", "lr": rate, "momentum": number / 10}, "batch": 64}
        for number in range(10)
    }
    seeds = {"tune": 1, "final": trials // 10} if settings == 1 else {"tune": trials // 10 // settings, "final": 1}
    task = {"module": {"name": "classifier", "net": "mlp"}, "data": "digits", "metric": "accuracy"}
    return {"name": "scale", "seeds": seeds, "tasks": {"t": {**task, "budget": {"epochs": 1}}}, "recipes": recipes}


def train_nothing(sent: SentTrial) -> Record:
    """In place of a training: a record with one number, the same for the same trial."""
    trial = sent.trial
    quality = Quality(trial.task.metric, trial.task.mode)
    quality.best.val.metric = int(trial.id, 16) / 16**16
    return Record(trial=trial.facts(), status="ok", quality=quality)


def plan(trials: int, settings: int) -> tuple[float, float, float, float, float]:
    """Seconds to read, check, make the first trial, make all; and mebibytes that it took."""
    from trainoff.benchmarks.pairs import checked_pairs
    from trainoff.benchmarks.suite import parse_suite

    held, start = _resident(), time.perf_counter()
    suite = parse_suite(suite_data(trials, settings), lambda *path: ".".join(map(str, path)))
    read = time.perf_counter()
    pairs = checked_pairs(suite, {})
    checked = time.perf_counter()

    def made() -> Iterator[str]:
        for pair in pairs:
            setting = pair.chosen()
            yield from (trial.id for trial in pair.tuning_trials())
            yield from (trial.id for trial in (pair.final_trials(setting) if setting else ()))

    ids = made()
    next(ids)
    first = time.perf_counter()
    for _ in ids:
        pass
    return read - start, checked - read, first - checked, time.perf_counter() - first, _resident() - held


def run(trials: int, executor: str, folder: Path) -> float:
    """Seconds of a whole run whose trials train nothing."""
    from trainoff.benchmarks.executors.choice import ExecutorChoice
    from trainoff.benchmarks.executors.outcome import Executor
    from trainoff.benchmarks.executors.resources import Resources
    from trainoff.benchmarks.executors.slurm import SlurmExecutor
    from trainoff.benchmarks.pairs import make_pairs
    from trainoff.benchmarks.runner import Run, claim
    from trainoff.benchmarks.store import RunFolder
    from trainoff.benchmarks.suite import parse_suite

    class Empty(Run):
        """As a run, with nothing to train."""

        def executor(self) -> Executor[Any, Record]:
            if executor == "slurm":
                options = {"time": 60, "trials_per_job": max(trials // 10, 1)}
                return SlurmExecutor(train_nothing, Resources(), folder, options, most=2, cluster="local")
            return self.choice.open(train_nothing, Resources(), trials, folder)

    suite = parse_suite(suite_data(trials, 1), lambda *path: ".".join(map(str, path)))
    pairs = make_pairs(suite)
    choice = ExecutorChoice.of("local" if executor == "slurm" else executor)
    start = time.perf_counter()
    with RunFolder(folder) as run_folder:
        claim(run_folder, suite)
        progress = Empty(suite, pairs, run_folder, choice, "", {}, lambda progress: None).run()
    seconds = time.perf_counter() - start
    if (progress.done, progress.failed) != (trials, 0):
        raise RuntimeError(f"{progress} of {trials}")
    return seconds


def _resident() -> float:
    """Mebibytes; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main(arguments: list[str]) -> None:
    """Print the tables."""
    trials = int(arguments[0]) if arguments else 10_000
    executors = arguments[1:] or list(_EXECUTORS)
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"{platform.machine()}, {os.cpu_count()} processors{load}")
    print(f"{'trials':>8} {'settings':>8} {'read s':>7} {'check s':>7} {'first s':>7} {'all s':>7} {'MiB':>6}")
    plan(1_000, 1)  # imports
    for settings_each in (1, 10):
        for size in _SIZES:
            each = 1 if settings_each == 1 else size // 100
            read, check, first, every, memory = plan(size, each)
            print(f"{size:>8} {10 * each:>8} {read:>7.2f} {check:>7.2f} {first:>7.3f} {every:>7.2f} {memory:>6.0f}")
    print(f"{'executor':<8} {'trials':>8} {'s':>8} {'trials/s':>9} {'ms/trial':>9}")
    for executor in executors:
        for size in (trials // 10, trials):
            with tempfile.TemporaryDirectory() as folder:
                seconds = run(size, executor, Path(folder) / "run")
            print(f"{executor:<8} {size:>8} {seconds:>8.1f} {size / seconds:>9.0f} {1000 * seconds / size:>9.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
