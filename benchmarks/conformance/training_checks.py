"""The checks that optimizers, regularizers and nets share: trains, is deterministic, resumes, survives bf16."""

from __future__ import annotations

import functools
import pickle
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor

from trainoff.benchmarks.conformance.findings import Check, Misbehaviour, one_line
from trainoff.benchmarks.conformance.training import BATCH, EPOCHS, HALF, Outcome, train
from trainoff.datamodules.scikit_learn import Digits
from trainoff.modules.classifier import Classifier
from trainoff.modules.recipe import Recipe


@dataclass
class TrainingSubject:
    """What is trained in a check, and how.

    Args:
        choice: What is checked, normalised.
        recipes: To be tried in this order until one trains: a library's default learning rate often does not.
        net: Normalised.
        data: Makes the DataModule.
        batch: Samples a step.
    """

    choice: dict[str, Any]
    recipes: Sequence[Recipe]
    net: dict[str, Any]
    data: Callable[[], Digits] = Digits
    batch: int | Literal["full"] = BATCH

    def make(self, recipe: Recipe) -> L.LightningModule:
        """The LightningModule by a recipe, its net not yet built."""
        return Classifier(self.net, recipe=recipe)

    def train(self, recipe: Recipe, **options: Any) -> Outcome:
        """Train once; see :func:`trainoff.benchmarks.conformance.training.train`."""
        return train(self.make, recipe, self.data, self.batch, **options)

    @functools.cached_property
    def tried(self) -> list[tuple[Recipe, Outcome]]:
        """The recipes tried, with what came of them; the last one trains, if any does."""
        tried = []
        for recipe in self.recipes:
            tried.append((recipe, self.train(recipe)))
            if tried[-1][1].falls:
                break
        return tried

    @property
    def reference(self) -> Outcome:
        """The training that the others are compared with."""
        return self.tried[-1][1]

    @property
    def recipe(self) -> Recipe:
        """The reference's."""
        return self.tried[-1][0]


def _trains(subject: TrainingSubject) -> str:
    if not subject.reference.falls:
        raise Misbehaviour("; ".join(_with_rate(recipe, outcome) for recipe, outcome in subject.tried))
    if len(subject.tried) == 1:
        return str(subject.reference)
    failed = ", ".join(_with_rate(recipe, outcome) for recipe, outcome in subject.tried[:-1])
    return f"{_with_rate(subject.recipe, subject.reference)} (but {failed})"


def _with_rate(recipe: Recipe, outcome: Outcome) -> str:
    rate = recipe.to_dict()["optimizer"]
    rate = rate.get("init_args", rate).get("lr")
    return f"{outcome}" if rate is None else f"{outcome} at lr {rate:g}"


def _is_deterministic(subject: TrainingSubject) -> str:
    again = subject.train(subject.recipe)
    refuse_difference(subject.reference.parameters, again.parameters, "two trainings of one seed end")
    return "two trainings of one seed end at the same parameters, bit by bit"


def _resumes(subject: TrainingSubject) -> str:
    half = subject.train(subject.recipe, stop_after=HALF)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "half.ckpt"
        half.trainer.save_checkpoint(path)
        try:
            resumed = subject.train(subject.recipe, resume_from=path)
        except pickle.UnpicklingError as error:
            # torch's message is a page on how to load it all the same; what is in the way is one name in it.
            names = ", ".join(dict.fromkeys(re.findall(r"GLOBAL (\S+)", str(error)))) or one_line(error)
            raise Misbehaviour(f"its checkpoint does not load with weights_only=True, as it holds {names}") from error
    whole = subject.reference
    if resumed.steps != whole.steps:
        raise Misbehaviour(f"resumed, it ends after {resumed.steps} steps; uninterrupted after {whole.steps}")
    refuse_difference(whole.parameters, resumed.parameters, "a resumed and an uninterrupted training end")
    return f"stopped after {HALF} of {EPOCHS} epochs and resumed, it ends at the same parameters, bit by bit"


def _survives_bf16(subject: TrainingSubject) -> str:
    """In bf16-true where that trains, else in bf16-mixed, which is what most people use."""
    problems = []
    for precision in ("bf16-true", "bf16-mixed"):
        recipe = Recipe.of({**subject.recipe.to_dict(), "precision": precision})
        try:
            outcome = subject.train(recipe)
        except Exception as error:  # the other precision may do
            problems.append(f"{precision}: {one_line(error)}")
            continue
        if outcome.falls:
            return f"{precision}: {outcome}" + (f" (but {problems[0]})" if problems else "")
        problems.append(f"{precision}: {outcome}")
    raise Misbehaviour("; ".join(problems))


def refuse_difference(first: Tensor, second: Tensor, what: str) -> None:
    """Raise :class:`Misbehaviour` where two vectors of parameters are not equal bit by bit."""
    if not torch.equal(first, second):
        difference = float((first - second).abs().max()) if first.shape == second.shape else float("nan")
        raise Misbehaviour(f"{what} at parameters that differ by up to {difference:.2g}")


TRAINS: Check[Any] = Check("trains", _trains, needs=("builds",))
IS_DETERMINISTIC: Check[Any] = Check("deterministic", _is_deterministic, needs=("trains",))
RESUMES: Check[Any] = Check("resumes", _resumes, needs=("deterministic",))
SURVIVES_BF16: Check[Any] = Check("bf16", _survives_bf16, needs=("trains",))
