"""Running what is missing of a suite: trials out to workers, records back into the run folder."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainoff.benchmarks.checkpoint_interval import CheckpointPlace
from trainoff.benchmarks.environment import git_state
from trainoff.benchmarks.executors.choice import ExecutorChoice
from trainoff.benchmarks.executors.outcome import Executor, Outcome, Raised
from trainoff.benchmarks.executors.resources import Resources
from trainoff.benchmarks.failed_record import died_from_outside, failed_record
from trainoff.benchmarks.known_records import KnownRecords
from trainoff.benchmarks.pairs import Pair, Rerun, checked_pairs, count_reasons, is_repeated, placed, take_stock
from trainoff.benchmarks.record import Record
from trainoff.benchmarks.secret_scan import refuse_secrets
from trainoff.benchmarks.sent_trial import SentTrial, train, train_on_a_node
from trainoff.benchmarks.store import RunFolder
from trainoff.benchmarks.suite import Suite
from trainoff.benchmarks.suite_yaml import dump_yaml
from trainoff.benchmarks.trial import Stage, Trial
from trainoff.errors import UserError
from trainoff.modules.optimizers import OPTIMIZERS
from trainoff.modules.strategy_requirements import processes_of

if TYPE_CHECKING:
    from trainoff.benchmarks.tracking import Tracker

# What a worker imports before its first trial: the fork server imports it once for all.
PRELOAD = ("trainoff.benchmarks.worker",)


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
    executor: str | Mapping[str, Any] | None = None,
    tracker: Tracker | None = None,
) -> Progress:
    """Run the trials that the folder lacks, each leaving a record.

    Args:
        suite: What to run.
        folder: The run folder; made where it is missing.
        workers: Trials at a time. By default one a processor; on a cluster what it has room for.
        rerun: ``failed`` also runs the failed ones again, ``all`` every one.
        classes: Classes that workers cannot import, by class path.
        watch: Called whenever the numbers change.
        executor: Where trials run: ``local`` (the default), ``ray`` or ``slurm``; or a mapping with the name and its
            options, such as ``{"name": "ray", "address": "auto", "gpus": 1}``.
        tracker: Told of each trial's beginning and end.

    Raises:
        UserError: For a mistake in suite, task or recipe, and for what looks like a secret among its values; finished
            trials keep their records.
    """
    choice = ExecutorChoice.of(executor, workers)
    refuse_secrets(suite.data, suite.name)
    # Without the lock, so that a mistake leaves nothing; what counts is read again under it.
    records = KnownRecords.of(RunFolder(folder)).records if folder.is_dir() else {}
    pairs = checked_pairs(suite, records, rerun)
    del records
    with RunFolder(folder) as run_folder:
        claim(run_folder, suite)
        return Run(suite, pairs, run_folder, choice, rerun, dict(classes or {}), watch, tracker).run()


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
        choice: Where trials run.
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
        choice: ExecutorChoice,
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
        settings = [setting.fields for recipe in suite.recipes for setting in recipe.settings]
        self.choice = choice.for_processes(max(processes_of(fields.get("strategy")) for fields in settings))
        self.progress = Progress(total=count_trials(suite))
        self.tracker = tracker
        self.git = git_state(Path.cwd())
        self.known = KnownRecords()
        self.submitted: dict[str, tuple[Pair, Trial]] = {}
        self.retried: set[str] = set()  # their worker was killed from outside
        self.interrupted = 0  # of these, by a second kill
        self.started: set[tuple[str, str, Stage]] = set()

    def run(self) -> Progress:
        """Run what is missing, and say how it went."""
        self._take_stock()
        missing = self.first_trials(self.pairs)
        first = next(missing, None)
        self.watch(self.progress)
        if first is None:
            return self.progress
        with self.executor() as executor:
            self.finish(executor, chain([first], missing))
        self.tell_kills()
        return self.progress

    def first_trials(self, pairs: list[Pair]) -> Iterator[Trial]:
        """The trials of the pairs that can start now, in turns: what is wrong with a recipe shows in its first one."""
        turns = deque(self._next(pair) for pair in pairs)
        while turns:
            trials = turns.popleft()
            trial = next(trials, None)
            if trial is not None:
                turns.append(trials)
                yield trial

    def executor(self) -> Executor[Any, Record]:
        """Where the trials run; to be entered."""
        needs = Resources(
            memory_limit=self.suite.memory_limit, time_limit=self.suite.time_limit, preload=self._preload()
        )
        work = train if self.choice.is_local else partial(train_on_a_node, self.choice.cpus)
        return self.choice.open(work, needs, self.most_at_once(), self.folder.path)

    def most_at_once(self) -> int:
        """How many trials there may be at the same time."""
        return self.progress.total

    def finish(self, executor: Executor[Any, Record], trials: Iterable[Trial]) -> None:
        """Train these trials and those that follow from their results, each leaving a record."""
        self.progress.workers = min(executor.at_once, self.progress.total)
        feed = deque([iter(trials)])
        self._feed(executor, feed)
        for outcome in executor.completed():
            pair, trial = self.submitted[outcome.key]
            if died_from_outside(outcome) and outcome.key not in self.retried:
                self.retried.add(outcome.key)
                self._submit(executor, trial)
                continue
            del self.submitted[outcome.key]
            self._keep(pair, self._record_of(pair, trial, outcome))
            if not self._has_started(pair, "final") and pair.chosen() is not None:
                feed.append(self._final(pair))
            self._feed(executor, feed)
            self.watch(self.progress)

    def _feed(self, executor: Executor[Any, Record], feed: deque[Iterator[Trial]]) -> None:
        """Submit so many trials that the executor has enough at hand; made one by one, a hundred thousand fit."""
        while feed and len(self.submitted) < executor.window:
            trial = next(feed[0], None)
            if trial is None:
                feed.popleft()
            else:
                self._submit(executor, trial)

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
        self.known = KnownRecords.of(self.folder)
        self.progress.notes += self.known.complaints
        self.set_aside(take_stock(self.suite, self.pairs, self.known.records, self.rerun))
        self.known.records = {}  # each pair has its own

    def set_aside(self, reasons: Mapping[str, str]) -> None:
        """Move records away that are of no use any more, so that a board does not count them."""
        for identity in reasons:
            self.folder.set_aside(identity)
        self.progress.notes += [f"set aside {line}" for line in count_reasons(reasons)]

    def _next(self, pair: Pair) -> Iterator[Trial]:
        """The pair's trials that can start now and have no record; counts those that have one."""
        if self._starts(pair, "tune"):
            yield from self._missing(pair, pair.tuning_trials())
        yield from self._final(pair)

    def _final(self, pair: Pair) -> Iterator[Trial]:
        """The pair's final trials that have no record, once the setting is chosen; at the first call."""
        if self._has_started(pair, "final") or not pair.final_seeds:
            return
        setting = pair.chosen()
        if setting is None or not self._starts(pair, "final"):
            return
        superseded = pair.superseded()
        for identity in superseded:
            pair.records.pop(identity, None)
            pair.repeated.pop(identity, None)
        self.set_aside(superseded)
        yield from self._missing(pair, pair.final_trials(setting))

    def _has_started(self, pair: Pair, stage: Stage) -> bool:
        return (pair.task.name, pair.recipe.name, stage) in self.started

    def _starts(self, pair: Pair, stage: Stage) -> bool:
        """Whether it had not started; it has now."""
        started = self._has_started(pair, stage)
        self.started.add((pair.task.name, pair.recipe.name, stage))
        return not started

    def _missing(self, pair: Pair, trials: Iterable[Trial]) -> Iterator[Trial]:
        for trial in trials:
            record = pair.records.get(trial.id) or self._restored(pair, trial)
            if record is None:
                self.submitted[trial.id] = (pair, trial)
                yield trial
                continue
            if record.trial.stage != trial.stage:
                # Other numbers of seeds: what was trained is the same, what it counts for is not.
                record.trial.stage, record.trial.tuned = trial.stage, trial.tuned
                self.folder.relabel(trial.id, trial.stage, trial.tuned)
            self.progress.reused += 1
            self.progress.failed += record.status != "ok"

    def _restored(self, pair: Pair, trial: Trial) -> Record | None:
        """A record that an earlier run set aside, where the suite has come back to it."""
        if trial.id in pair.repeated:
            return None
        record = self.folder.restore(trial.id)
        if record is None or is_repeated(record, self.rerun):
            return None
        pair.records[trial.id] = self.known.light(record)
        return record

    def _submit(self, executor: Executor[Any, Record], trial: Trial) -> None:
        every = self.suite.checkpoint_every
        place = None if every is None else CheckpointPlace(self.folder.checkpoint_path(trial.id), every)
        spool = "" if self.tracker is None else self.tracker.begin(trial)
        sent = SentTrial(trial, self._beside(trial), self.git, self.classes, place, spool)
        executor.submit(trial.id, sent, self._places(trial))

    def _places(self, trial: Trial) -> int:
        """Of how many trials it takes the place: as its devices are, or all where it is to run alone."""
        places = -(-processes_of(trial.setting.get("strategy")) // (self.choice.gpus or 1))
        return max(places, self.progress.workers) if self.suite.is_exclusive and self.choice.is_local else places

    def _beside(self, trial: Trial) -> int:
        """How many others may run at the same time."""
        return max(self.progress.workers - self._places(trial), 0)

    def _keep(self, pair: Pair, record: Record) -> None:
        self.folder.write(record)
        if self.tracker is not None:
            self.tracker.end(record)
        pair.repeated.pop(record.trial.id, None)
        pair.records[record.trial.id] = self.known.light(record)
        self.progress.done += 1
        self.progress.failed += record.status != "ok"
        self.interrupted += record.status == "interrupted"

    def _record_of(self, pair: Pair, trial: Trial, outcome: Outcome[Record]) -> Record:
        if outcome.result is not None:
            return outcome.result
        if isinstance(outcome.failure, Raised) and isinstance(outcome.failure.exception, UserError):
            self.refuse(pair, outcome.failure.exception)
        return failed_record(trial, outcome, self.git, self._beside(trial))

    def refuse(self, pair: Pair, error: UserError) -> None:
        """End the run, as what a user can mend is not the recipe's failure."""
        with placed(self.suite, pair.task.name, pair.recipe.name):
            raise error
