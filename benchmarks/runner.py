"""Running what is missing of a suite: trials out to workers, records back into the run folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainoff.benchmarks.environment import describe, git_state
from trainoff.benchmarks.executors.local import LocalExecutor, Outcome, Raised, TimedOut, WorkerDied
from trainoff.benchmarks.plan import Pair, Rerun, checked_pairs, count_reasons, is_repeated, placed, take_stock
from trainoff.benchmarks.record import Failure, Quality, Record, Status
from trainoff.benchmarks.secret_scan import refuse_secrets
from trainoff.benchmarks.store import RunFolder
from trainoff.benchmarks.suite import Suite
from trainoff.benchmarks.suite_yaml import dump_yaml
from trainoff.benchmarks.trial import Stage, Trial
from trainoff.errors import UserError
from trainoff.modules.optimizers import OPTIMIZERS

if TYPE_CHECKING:
    from trainoff.benchmarks.tracking import Tracker

# What a worker imports before its first trial: the fork server imports it once for all.
PRELOAD = ("trainoff.benchmarks.worker",)
# A worker killed from outside says nothing about the recipe: its trial is tried once more.
_FROM_OUTSIDE = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")


@dataclass
class Progress:
    """How far a run is.

    Args:
        total: Trials that the suite asks for.
        reused: Of them, found in the run folder.
        done: Finished in this run.
        failed: Of all finished ones, not ``ok``.
        workers: Running at a time.
        notes: What was set aside, and why.
    """

    total: int = 0
    reused: int = 0
    done: int = 0
    failed: int = 0
    workers: int = 0
    notes: list[str] = field(default_factory=list)


Watch = Callable[[Progress], None]


def default_workers() -> int:
    """One for each processor that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def count_trials(suite: Suite) -> int:
    """Trials that a suite asks for, tuning included."""
    return sum(Pair(suite, task, recipe, "", {}).count for task in suite.tasks for recipe in suite.recipes)


def run_suite(
    suite: Suite,
    folder: Path,
    workers: int | None = None,
    rerun: Rerun = "",
    classes: Mapping[str, Any] | None = None,
    watch: Watch = lambda progress: None,
    tracker: Tracker | None = None,
) -> Progress:
    """Run the trials that the folder lacks, each leaving a record.

    Args:
        suite: What to run.
        folder: The run folder; made where it is missing.
        workers: Processes; one a processor by default.
        rerun: ``failed`` also runs the failed ones again, ``all`` every one.
        classes: Classes that workers cannot import, by class path.
        watch: Called whenever the numbers change.
        tracker: Told of each trial's beginning and end.

    Raises:
        UserError: For a mistake in suite, task or recipe, and for what looks like a secret among its values; finished
            trials keep their records.
    """
    refuse_secrets(suite.data, suite.name)
    # Without the lock, so that a mistake leaves nothing; what counts is read again under it.
    records = RunFolder(folder).read_all()[0] if folder.is_dir() else {}
    pairs = checked_pairs(suite, records, rerun)
    with RunFolder(folder) as run_folder:
        claim(run_folder, suite)
        workers = workers or default_workers()
        return Run(suite, pairs, run_folder, workers, rerun, dict(classes or {}), watch, tracker).run()


def claim(folder: RunFolder, suite: Suite) -> None:
    """Keep the suite beside its records.

    Raises:
        UserError: Where the folder holds another suite's.
    """
    holder = folder.suite_name()
    if holder not in (None, suite.name):
        raise UserError(f"holds the suite '{holder}', not '{suite.name}'; give another --out", str(folder.path))
    folder.write_suite(dump_yaml(suite.data))


class Run:
    """One call of :func:`run_suite`, which says what its arguments are.

    Args:
        suite: What is asked for.
        pairs: The suite's.
        folder: Locked.
        workers: At most.
        rerun: Which finished trials are run again.
        classes: Classes that workers cannot import.
        watch: Called whenever the numbers change.
        tracker: Told of each trial's beginning and end.
    """

    def __init__(
        self,
        suite: Suite,
        pairs: list[Pair],
        folder: RunFolder,
        workers: int,
        rerun: Rerun,
        classes: dict[str, Any],
        watch: Watch,
        tracker: Tracker | None = None,
    ) -> None:
        self.suite = suite
        self.pairs = pairs
        self.folder = folder
        self.rerun = rerun
        self.classes = classes
        self.watch = watch
        self.tracker = tracker
        self.progress = Progress(total=count_trials(suite), workers=min(workers, count_trials(suite)))
        self.git = git_state(Path.cwd())
        self.submitted: dict[str, tuple[Pair, Trial]] = {}
        self.retried: set[str] = set()  # their worker was killed from outside
        self.interrupted = 0  # of these, by a second kill
        self.started: set[tuple[str, str, Stage]] = set()

    def run(self) -> Progress:
        """Run what is missing, and say how it went."""
        self._take_stock()
        first = self.first_trials(self.pairs)
        self.watch(self.progress)
        if not first:
            return self.progress
        with self.executor() as executor:
            self.finish(executor, first)
        self.tell_kills()
        return self.progress

    def first_trials(self, pairs: list[Pair]) -> list[Trial]:
        """The trials of the pairs that can start now, in turns: what is wrong with a recipe shows in its first one."""
        turns = zip_longest(*[self._next(pair) for pair in pairs])
        return [trial for turn in turns for trial in turn if trial is not None]

    def executor(self) -> LocalExecutor[Any, Record]:
        """Workers for the trials; to be entered."""
        return LocalExecutor(
            _train, workers=self.progress.workers, time_limit=self.suite.time_limit, preload=self._preload()
        )

    def finish(self, executor: LocalExecutor[Any, Record], first: list[Trial]) -> None:
        """Train these trials and those that follow from their results, each leaving a record."""
        for trial in first:
            self._submit(executor, trial)
        for outcome in executor.completed():
            pair, trial = self.submitted[outcome.key]
            if self._died_from_outside(outcome) and outcome.key not in self.retried:
                self.retried.add(outcome.key)
                self._submit(executor, trial)
                continue
            self._keep(pair, self._record_of(pair, trial, outcome))
            for following in self._next(pair):
                self._submit(executor, following)
            self.watch(self.progress)

    def tell_kills(self) -> None:
        """Note how many trials lost their worker to something outside: the user may know what it was."""
        if not self.retried:
            return
        trials = f"{len(self.retried)} trial{'s' if len(self.retried) > 1 else ''}"
        fate = f"{self.interrupted} of them twice: the next run tries again" if self.interrupted else "tried again"
        self.progress.notes.append(f"workers were killed from outside in {trials}, {fate}")
        self.watch(self.progress)

    def _preload(self) -> tuple[str, ...]:
        """The library of optimizers takes seconds to import: once for all workers, where it is used at all."""
        fields = [setting.fields for recipe in self.suite.recipes for setting in recipe.settings]
        # A regularizer may be an optimizer around the recipe's.
        names = {choice.get("name") for each in fields for choice in (each["optimizer"], *each["regularizers"])}
        used = any(OPTIMIZERS[name].target.startswith("pytorch_optimizer") for name in names if name in OPTIMIZERS)
        return (*PRELOAD, "pytorch_optimizer") if used else PRELOAD

    def _take_stock(self) -> None:
        """Sort the folder's records: those of use to their pairs, the others aside."""
        records, problems = self.folder.read_all()
        self.progress.notes += [f"{problem.path.name} is skipped: {problem.reason}" for problem in problems]
        self.set_aside(take_stock(self.suite, self.pairs, records, self.rerun))

    def set_aside(self, reasons: Mapping[str, str]) -> None:
        """Move records away that are of no use any more, so that a board does not count them."""
        for identity in reasons:
            self.folder.set_aside(identity)
        self.progress.notes += [f"set aside {line}" for line in count_reasons(reasons)]

    def _next(self, pair: Pair) -> list[Trial]:
        """The pair's trials that can start now and have no record; counts those that have one."""
        trials: list[Trial] = []
        if self._starts(pair, "tune"):
            trials += self._missing(pair, [trial for trials in pair.tuning() for trial in trials])
        final = None if self._has_started(pair, "final") or not pair.final_seeds else pair.final()
        if final is not None and self._starts(pair, "final"):
            superseded = pair.superseded()
            for identity in superseded:
                pair.records.pop(identity, None)
                pair.repeated.pop(identity, None)
            self.set_aside(superseded)
            trials += self._missing(pair, final)
        return trials

    def _has_started(self, pair: Pair, stage: Stage) -> bool:
        return (pair.task.name, pair.recipe.name, stage) in self.started

    def _starts(self, pair: Pair, stage: Stage) -> bool:
        """Whether it had not started; it has now."""
        started = self._has_started(pair, stage)
        self.started.add((pair.task.name, pair.recipe.name, stage))
        return not started

    def _missing(self, pair: Pair, trials: list[Trial]) -> list[Trial]:
        missing = []
        for trial in trials:
            record = pair.records.get(trial.id) or self._restored(pair, trial)
            if record is None:
                self.submitted[trial.id] = (pair, trial)
                missing.append(trial)
                continue
            if record.trial.stage != trial.stage:
                # Other numbers of seeds: what was trained is the same, what it counts for is not.
                record.trial.stage, record.trial.tuned = trial.stage, trial.tuned
                self.folder.write(record)
            self.progress.reused += 1
            self.progress.failed += record.status != "ok"
        return missing

    def _restored(self, pair: Pair, trial: Trial) -> Record | None:
        """A record that an earlier run set aside, where the suite has come back to it."""
        if trial.id in pair.repeated:
            return None
        record = self.folder.restore(trial.id)
        if record is None or is_repeated(record, self.rerun):
            return None
        pair.records[trial.id] = record
        return record

    def _submit(self, executor: LocalExecutor[Any, Record], trial: Trial) -> None:
        spool = "" if self.tracker is None else self.tracker.begin(trial)
        executor.submit(trial.id, (trial, self.progress.workers - 1, self.git, self.classes, spool))

    def _keep(self, pair: Pair, record: Record) -> None:
        self.folder.write(record)
        if self.tracker is not None:
            self.tracker.end(record)
        pair.repeated.pop(record.trial.id, None)
        pair.records[record.trial.id] = record
        self.progress.done += 1
        self.progress.failed += record.status != "ok"
        self.interrupted += record.status == "interrupted"

    @staticmethod
    def _died_from_outside(outcome: Outcome[Record]) -> bool:
        death = outcome.failure
        if not isinstance(death, WorkerDied) or death.memory:
            return False
        return death.exitcode is None or death.signal in _FROM_OUTSIDE

    def _record_of(self, pair: Pair, trial: Trial, outcome: Outcome[Record]) -> Record:
        if outcome.result is not None:
            return outcome.result
        failure = outcome.failure
        if isinstance(failure, TimedOut):
            return self._failed(trial, "timed_out", Failure("TimedOut", f"more than {failure.seconds:g} seconds"))
        if isinstance(failure, Raised):
            if isinstance(failure.exception, UserError):
                self.refuse(pair, failure.exception)
            kind, message = type(failure.exception).__name__, " ".join(str(failure.exception).split())
            return self._failed(trial, "crashed", Failure(kind, message, failure.traceback))
        assert isinstance(failure, WorkerDied)
        return self._failed(trial, self._status_of(outcome, failure), Failure("WorkerDied", _told(failure)))

    def refuse(self, pair: Pair, error: UserError) -> None:
        """End the run, as what a user can mend is not the recipe's failure."""
        with placed(self.suite, pair.task.name, pair.recipe.name):
            raise error

    def _status_of(self, outcome: Outcome[Record], death: WorkerDied) -> Status:
        if death.memory:
            return "out_of_memory"
        return "interrupted" if self._died_from_outside(outcome) else "crashed"

    def _failed(self, trial: Trial, status: Status, failure: Failure) -> Record:
        return Record(
            trial=trial.facts(),
            status=status,
            error=failure,
            quality=Quality(trial.task.metric, trial.task.mode),
            environment=describe(git=self.git, trials_beside=self.progress.workers - 1),
        )


def _told(death: WorkerDied) -> str:
    if death.exitcode is None:
        return "the worker was ended from outside, with the fork server that it came from"
    by = death.signal or f"exit status {death.exitcode}"
    return f"the worker was ended by {by}" + (f": {death.memory}" if death.memory else "")


def _train(payload: tuple[Trial, int, str, dict[str, Any], str]) -> Record:
    # Imported in the worker, where the fork server has it already.
    from trainoff.benchmarks.worker import run_trial

    return run_trial(*payload)
