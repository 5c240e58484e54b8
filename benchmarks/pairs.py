"""Which trials a suite asks for, and which of them a run folder has already."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from operator import itemgetter
from typing import Literal

import lightning as L

from trainoff.benchmarks.data_digest import fixed_randomness
from trainoff.benchmarks.provenance import check_batch, data_digest, source_digests, train_size
from trainoff.benchmarks.record import Record
from trainoff.benchmarks.rehearsal import rehearse
from trainoff.benchmarks.search_space import space_of
from trainoff.benchmarks.suite import Suite, SuiteRecipe
from trainoff.benchmarks.task_building import build_datamodule, build_module
from trainoff.benchmarks.task_checks import check_metric, check_own_batch, check_targets
from trainoff.benchmarks.trial import Stage, Task, Trial
from trainoff.benchmarks.tuning import Setting, choose, dotted, fields_text
from trainoff.errors import UserError
from trainoff.modules.recipe import Recipe

Rerun = Literal["", "failed", "all"]
# Of a suite of ten thousand settings not all are begun; the mistakes of the others are found by their trials.
_MOST_SECONDS = 10.0


@dataclass
class Pair:
    """One recipe on one task: its tuning trials, then, with the setting they choose, its final ones.

    Args:
        suite: Whose seeds.
        task: On which.
        recipe: By which.
        data_digest: Of the task's data.
        sources: Digests of the classes named by the task or the recipe.
        records: What is known so far, by trial id.
        repeated: Records of trials that are to be run again, by trial id.
    """

    suite: Suite
    task: Task
    recipe: SuiteRecipe
    data_digest: str
    sources: dict[str, str]
    records: dict[str, Record] = field(default_factory=dict)
    repeated: dict[str, Record] = field(default_factory=dict)
    _recorded: int = field(default=0, init=False, repr=False)  # of the tuning trials the first ones, all with a record

    @property
    def is_tuned(self) -> bool:
        """Whether it has tuning trials: to choose a setting, or, of a search's candidate, to choose the candidate."""
        return self.recipe.is_tuned or self.task.candidate is not None

    @property
    def final_seeds(self) -> tuple[int, ...]:
        """The seeds of its final trials: the suite's, and none of a candidate that its search did not choose."""
        is_lost = self.task.candidate is not None and not self.task.candidate.is_final
        return () if is_lost else self.suite.final_seeds

    @property
    def count(self) -> int:
        """How many trials it has, of both stages."""
        tuning = len(self.recipe.settings) * len(self.suite.tune_seeds) if self.is_tuned else 0
        return tuning + len(self.final_seeds)

    def tuning(self) -> list[list[Trial]]:
        """Of each setting, its tuning trials; empty where there is nothing to choose."""
        return [list(trials) for trials in self._by_setting()]

    def tuning_trials(self) -> Iterator[Trial]:
        """The same, one by one."""
        return chain.from_iterable(self._by_setting())

    def _by_setting(self) -> Iterator[Iterable[Trial]]:
        for setting in self.recipe.settings if self.is_tuned else ():
            yield (self._trial(setting, "tune", seed) for seed in self.suite.tune_seeds)

    @cached_property
    def _tuning_ids(self) -> list[str]:
        return [trial.id for trial in self.tuning_trials()]

    def _tuning_ids_of(self, number: int) -> list[str]:
        """Of a setting, by its place."""
        seeds = len(self.suite.tune_seeds)
        return self._tuning_ids[number * seeds : (number + 1) * seeds]

    def chosen(self) -> Setting | None:
        """The setting of the final trials; ``None`` until all tuning trials have ended.

        Where each setting failed the first one goes on, so that the board shows the failures.
        """
        if not self.is_tuned:
            return self.recipe.settings[0]
        # Asked after every trial: what was found at the last call is not looked for again.
        ids = self._tuning_ids
        while self._recorded < len(ids) and ids[self._recorded] in self.records:
            self._recorded += 1
        if self._recorded < len(ids):
            return None
        if not all(key in self.records for key in ids):  # some were set aside since
            self._recorded = 0
            return None
        known = [[self.records[key] for key in self._tuning_ids_of(n)] for n in range(len(self.recipe.settings))]
        return self.recipe.settings[choose(self.recipe.settings, known) or 0]

    def final(self) -> list[Trial] | None:
        """The final trials; ``None`` until the tuning trials have chosen a setting."""
        setting = self.chosen()
        return None if setting is None else list(self.final_trials(setting))

    def final_trials(self, setting: Setting) -> Iterator[Trial]:
        """The final trials of a setting, one by one."""
        return (self._trial(setting, "final", seed) for seed in self.final_seeds)

    def results(self) -> list[Record]:
        """The records of the chosen setting's tuning trials; empty until all have ended."""
        setting = self.chosen() if self.is_tuned else None
        if setting is None:
            return []
        return [self.records[key] for key in self._tuning_ids_of(self.recipe.settings.index(setting))]

    def to_begin(self) -> list[Trial]:
        """One trial of each setting that is to be trained and has trials without a record."""
        return self._one_missing_each(self._by_setting()) or self._one_missing_each([self.final() or []])

    def _one_missing_each(self, groups: Iterable[Iterable[Trial]]) -> list[Trial]:
        missing = (next((trial for trial in trials if trial.id not in self.records), None) for trials in groups)
        return [trial for trial in missing if trial is not None]

    def superseded(self) -> dict[str, str]:
        """The records of this pair that are of no use any more, by trial id, with why.

        A record of another final seed is still good; one of other data, sources, task or setting is not.
        """
        task = self.task.to_dict()
        settings = {fields_text(setting.fields) for setting in self.recipe.settings}
        tune_seeds, chosen = set(self.suite.tune_seeds), self.chosen()
        reasons = {}
        for identity, record in {**self.records, **self.repeated}.items():
            reason = self._why_superseded(record, task, settings, tune_seeds, chosen)
            if reason:
                reasons[identity] = f"{reason} ({self.recipe.name} on {self.task.name})"
        return reasons

    def _why_superseded(
        self,
        record: Record,
        task: dict[str, object],
        settings: set[str],
        tune_seeds: set[int],
        chosen: Setting | None,
    ) -> str:
        trial = record.trial
        if trial.task_config != task:
            return "the task changed"
        if trial.data_digest != self.data_digest:
            return "the data changed"
        if trial.source_digests != self.sources:
            paths = {*trial.source_digests, *self.sources}
            changed = [path for path in sorted(paths) if trial.source_digests.get(path) != self.sources.get(path)]
            return f"the source of {', '.join(changed)} changed"
        if fields_text(trial.setting) not in settings:
            return "the setting changed"
        if trial.stage == "tune":
            if not self.is_tuned:
                return "it is no longer tuned"
            return "" if trial.seed in tune_seeds else f"seed {trial.seed} no longer tunes"
        if trial.seed in tune_seeds:
            # Where the recipe is tuned, the trial is asked for again, as a tuning trial.
            return "" if self.is_tuned else f"seed {trial.seed} is now for tuning"
        if chosen is not None and trial.setting != chosen.fields:
            return "another setting was chosen"
        return ""

    def _trial(self, setting: Setting, stage: Stage, seed: int) -> Trial:
        return Trial(
            suite=self.suite.name,
            task=self.task,
            recipe=self.recipe.name,
            setting=setting.fields,
            tuned=setting.tuned if self.task.candidate is None else {**self.task.candidate.values, **setting.tuned},
            stage=stage,
            seed=seed,
            data_digest=self.data_digest,
            source_digests=self.sources,
        )


def make_pairs(suite: Suite) -> list[Pair]:
    """All recipe–task pairs; loads each task's data once, for its digest and its size.

    Raises:
        UserError: For data that cannot be loaded or are of another kind than the module trains on, a class that cannot
            be imported, a batch larger than the data, or an argument whose value is to be searched.
    """
    return [pair for task in suite.tasks for pair in PlannedTask(suite, task).pairs]


def checked_pairs(suite: Suite, records: Mapping[str, Record], rerun: Rerun = "") -> list[Pair]:
    """All recipe–task pairs, once everything has been checked that can be before a run writes anything.

    Args:
        suite: What is asked for.
        records: All that the run folder holds. A setting whose trials all have one is not begun, and nothing is moved.
        rerun: Which finished trials are to be run again.

    Raises:
        UserError: As for :func:`make_pairs`; and for a metric that is known not to be logged, or a mistake that shows
            when a trial begins.
    """
    pairs = []
    for task in suite.tasks:
        planned = PlannedTask(suite, task)
        with placed(suite, task.name):
            check_metric(planned.module, task)
        _rehearse(planned, records, rerun, time.monotonic() + _MOST_SECONDS / len(suite.tasks))
        pairs += planned.pairs
    return pairs


def _rehearse(planned: PlannedTask, records: Mapping[str, Record], rerun: Rerun, end: float) -> None:
    """Begin each setting that is to be trained, until the time is over: each recipe's first one before the others."""
    begun = []
    for pair in planned.pairs:
        stocked = replace(pair, records={}, repeated={})  # what a folder holds may change until its lock is held
        if records:
            take_stock(pair.suite, [stocked], records, rerun)
        begun += [(number, pair, trial) for number, trial in enumerate(stocked.to_begin())]
    for _, pair, trial in sorted(begun, key=itemgetter(0)):
        if time.monotonic() > end:
            return
        with placed(pair.suite, pair.task.name, pair.recipe.name):
            rehearse(trial, planned.datamodule)


class PlannedTask:
    """A task's DataModule, its module by the first recipe, and its pairs.

    Args:
        suite: Whose recipes.
        task: Its data are loaded once.

    Raises:
        UserError: As :func:`make_pairs`.
    """

    def __init__(self, suite: Suite, task: Task) -> None:
        for path in space_of(task.module):
            raise UserError("is to be searched: `trainoff search` runs this suite, and `trainoff run` those without",
                            suite.place(task.name, key=dotted(("module", *path))))  # fmt: skip
        # A split or data drawn without a seed would make new trials of each run.
        with placed(suite, task.name), fixed_randomness():
            self.datamodule, self._digest, self._size = _load(task)
            check_own_batch(task, self._size)
            # What is wrong with the module itself is said here, before anything is written.
            self.module = build_module(task.module, Recipe.of(suite.recipes[0].settings[0].fields))
            check_targets(self.module, self.datamodule)
        self.pairs = self.pairs_of(suite, task)

    def pairs_of(self, suite: Suite, task: Task) -> list[Pair]:
        """The pairs of a task on these data: of this one, or of another one with the same ``data``."""
        pairs = []
        for recipe in suite.recipes:
            fields = [setting.fields for setting in recipe.settings]
            with placed(suite, task.name, recipe.name):
                for setting in fields:
                    check_batch(setting.get("batch"), setting.get("microbatches", 1), self._size)
            sources = source_digests(task.module, task.data, fields)
            pairs.append(Pair(suite, task, recipe, self._digest, sources))
        return pairs


@contextlib.contextmanager
def placed(suite: Suite, task: str, recipe: str = "") -> Iterator[None]:
    """A complaint of what stands inside, with the task and the recipe that it is about."""
    try:
        yield
    except UserError as error:
        raise UserError(error.message, suite.place(task, recipe, error.where)) from error


def _load(task: Task) -> tuple[L.LightningDataModule, str, int | None]:
    """The DataModule, its digest and its training samples; whatever it raises is the user's to mend."""
    try:
        datamodule = build_datamodule(task.data)
        datamodule.prepare_data()
        datamodule.setup("fit")
        return datamodule, data_digest(datamodule), train_size(datamodule)
    except UserError as error:
        inner = error.where.removeprefix("data").lstrip(": ")
        raise UserError(error.message, f"data.{inner}" if inner else "data") from error
    except Exception as error:
        what = task.data.get("name") or task.data["class_path"]
        last = traceback.extract_tb(error.__traceback__)[-1]
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{what} raised {reason} ({last.filename}:{last.lineno})", "data") from error


def take_stock(suite: Suite, pairs: Iterable[Pair], records: Mapping[str, Record], rerun: Rerun) -> dict[str, str]:
    """Give each pair its records; nothing is moved or written.

    Args:
        suite: What is asked for; pairs may be of some of its recipes only.
        pairs: Get ``records``, and ``repeated``.
        records: All that the run folder holds.
        rerun: Which finished trials are to be run again.

    Returns:
        The records that are of no use any more, by trial id, with why.
    """
    aside: dict[str, str] = {}
    by_name = {(pair.task.name, pair.recipe.name): pair for pair in pairs}
    for identity, record in records.items():
        trial = record.trial
        if trial.recipe not in suite.data["recipes"] or trial.task not in suite.data["tasks"]:
            aside[identity] = f"no longer in the suite ({trial.recipe} on {trial.task})"
        elif pair := by_name.get((trial.task, trial.recipe)):
            (pair.repeated if is_repeated(record, rerun) else pair.records)[identity] = record
    for pair in by_name.values():
        superseded = pair.superseded()
        aside |= superseded
        for identity in superseded:
            pair.records.pop(identity, None)
            pair.repeated.pop(identity, None)
    return aside


def is_repeated(record: Record, rerun: Rerun) -> bool:
    """Whether a trial that has this record is run again."""
    if record.status == "interrupted" or rerun == "all":
        return True
    return rerun == "failed" and record.status != "ok"


def count_reasons(reasons: Mapping[str, str]) -> list[str]:
    """``12 records: the data changed``, by frequency."""
    counted = Counter(reasons.values())
    return [f"{count} record{'s' if count > 1 else ''}: {reason}" for reason, count in counted.most_common()]
