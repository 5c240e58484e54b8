"""Checks of a suite."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L

from trainoff.benchmarks.conformance.findings import Check, Finding, Misbehaviour, one_line, run_checks
from trainoff.benchmarks.engines.evaluation import evaluate, refuse_missing_test
from trainoff.benchmarks.pairs import make_pairs
from trainoff.benchmarks.randomness import seed_everything
from trainoff.benchmarks.rehearsal import rehearse
from trainoff.benchmarks.runner import count_trials
from trainoff.benchmarks.search_space import space_of
from trainoff.benchmarks.suite import Suite, SuiteRecipe, load_suite
from trainoff.benchmarks.suite_registry import SUITES
from trainoff.benchmarks.task_building import build_datamodule, build_module
from trainoff.benchmarks.trial import Task
from trainoff.benchmarks.tuning import with_values
from trainoff.modules.recipe import Recipe

_MOST_NAMED = 3  # failures told in one line


@dataclass
class _Subject:
    target: str

    @functools.cached_property
    def suite(self) -> Suite:
        """Parsed; where arguments are left to an architecture search, with the first value of each."""
        suite = load_suite(self.target)
        return replace(suite, tasks=tuple(replace(task, module=_first_candidate(task.module)) for task in suite.tasks))


def _first_candidate(module: Mapping[str, Any]) -> dict[str, Any]:
    values = {path: domain.first for path, domain in space_of(module).items()}
    made: dict[str, Any] = with_values(module, values)
    return made


def findings(target: str) -> list[Finding]:
    """Check a suite, by name or by the path of its file; see :func:`trainoff.benchmarks.conformance.check`.

    Raises:
        UserError: Where there is neither such a name nor such a file.
    """
    if target in SUITES:
        SUITES[target].load()
    elif not Path(target).is_file():
        load_suite(target)  # which says what is missing
    checks = [
        Check("parses", _parses),
        Check("data", _loads_its_data, needs=("parses",)),
        Check("plan", _plans, needs=("data",)),
        Check("recipes apply", _applies_its_recipes, needs=("plan",)),
        Check("metrics", _logs_its_metrics, needs=("recipes apply",)),
    ]
    return run_checks(checks, _Subject(target))


def _parses(subject: _Subject) -> str:
    suite = subject.suite
    return f"'{suite.name}': {len(suite.tasks)} tasks, {len(suite.recipes)} recipes, {len(suite.final_seeds)} seeds"


def _loads_its_data(subject: _Subject) -> str:
    notes = []
    for task in subject.suite.tasks:
        datamodule = build_datamodule(task.data)
        datamodule.prepare_data()
        datamodule.setup("fit")
        for split in ("train", "val", "test"):
            if next(iter(getattr(datamodule, f"{split}_dataloader")()), None) is None:
                raise Misbehaviour(f"{split}_dataloader of {type(datamodule).__name__} yields no batch")
        notes.append(f"{task.name}: {type(datamodule).__name__}")
    return ", ".join(notes)


def _applies_its_recipes(subject: _Subject) -> str:
    """Each setting is begun, up to its first batch, and each recipe makes one step with its first setting."""
    problems, count = [], 0
    for pair in make_pairs(subject.suite):
        task, recipe = pair.task, pair.recipe
        try:
            datamodule = build_datamodule(task.data)
            datamodule.prepare_data()
            datamodule.setup("fit")
            for trial in pair.to_begin():
                rehearse(trial, datamodule)
            _one_step(task, recipe)
        except Exception as error:  # told for each recipe by its name
            problems.append(f"{recipe.name} on {task.name}: {one_line(error)}")
        count += 1
    if problems:
        rest = len(problems) - _MOST_NAMED
        raise Misbehaviour("; ".join(problems[:_MOST_NAMED]) + (f"; and {rest} more" if rest > 0 else ""))
    return f"{count} pairs of recipe and task make a step"


def _logs_its_metrics(subject: _Subject) -> str:
    for task in subject.suite.tasks:
        trainer, module, datamodule = _one_step(task, subject.suite.recipes[0])
        refuse_missing_test(module, datamodule)
        scores = evaluate(trainer, module, datamodule, task, None)
        if scores.val.metric is None:
            raise Misbehaviour(f"{type(module).__name__} logs no '{task.metric}' in validation, on task {task.name}")
    return ", ".join(f"{task.metric} on {task.name}" for task in subject.suite.tasks)


def _one_step(task: Task, recipe: SuiteRecipe) -> tuple[L.Trainer, L.LightningModule, L.LightningDataModule]:
    settled = Recipe.of(recipe.settings[0].fields)
    seed_everything(0)
    datamodule = build_datamodule(task.data)
    module = build_module(task.module, settled)
    arguments = {"devices": 1} | settled.trainer_arguments()
    trainer = L.Trainer(
        max_epochs=1,
        limit_train_batches=settled.microbatches,  # not max_steps, which would end the epoch without validation
        limit_val_batches=1,
        limit_test_batches=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **arguments,
    )
    trainer.fit(module, datamodule=datamodule)
    if trainer.global_step != 1:
        raise Misbehaviour(f"{trainer.global_step} steps were made in place of 1")
    return trainer, module, datamodule


def _plans(subject: _Subject) -> str:
    suite = subject.suite
    for recipe in suite.recipes:
        for number, setting in enumerate(recipe.settings):
            if any(setting.fields == other.fields for other in recipe.settings[:number]):
                raise Misbehaviour(f"recipe {recipe.name} has the setting {setting.tuned} twice")
    pairs = make_pairs(suite)
    return f"{count_trials(suite)} trials of {len(pairs)} pairs of recipe and task"
