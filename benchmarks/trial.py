"""Tasks and trials: what is trained, on what, for how long, by which setting, with which seed."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from typing import Any, Literal

from trainoff.benchmarks.record import TrialFacts

Stage = Literal["tune", "final"]


@dataclasses.dataclass(frozen=True)
class Budget:
    """How long a trial trains: until the first of these is reached.

    Args:
        epochs: Passes over the training split.
        steps: Optimizer steps.
        seconds: Seconds of training, evaluation left out.
        gradient_norm: The 2-norm of the gradient, penalties included; "until convergence".
    """

    epochs: int | None = None
    steps: int | None = None
    seconds: float | None = None
    gradient_norm: float | None = None


@dataclasses.dataclass(frozen=True)
class Candidate:
    """What an architecture search says of a task that it made.

    Args:
        of: The task that was searched over.
        values: What each searched argument took, by dotted key within the module.
        is_final: Whether it is trained on the final seeds too.
    """

    of: str
    values: dict[str, Any]
    is_final: bool = False


@dataclasses.dataclass(frozen=True)
class Task:
    """A LightningModule on a DataModule, judged by a metric within a budget.

    Args:
        name: The suite's name for it.
        module: Normalised choice of a LightningModule.
        data: Normalised choice of a DataModule.
        metric: Short name of the metric, as logged after ``val/`` or ``val_``.
        mode: ``max`` where more is better, else ``min``.
        budget: When training ends.
        target: Value of the validation metric whose time is recorded.
        candidate: Where an architecture search made the task: of what, and with which values.
        row_of: The name of the board's table in which it is a row, beside the tasks that say the same.
    """

    name: str
    module: dict[str, Any]
    data: dict[str, Any]
    metric: str
    mode: Literal["max", "min"]
    budget: Budget
    target: float | None = None
    candidate: Candidate | None = None
    row_of: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without the name, and of a candidate only what it is one of: its values stand in the module."""
        return dict(self._plain)

    @functools.cached_property
    def _plain(self) -> dict[str, Any]:  # once for all trials of a task
        content = dataclasses.asdict(self)
        del content["name"], content["candidate"]
        if self.row_of is None:
            del content["row_of"]
        if self.candidate is not None:
            content["candidate_of"] = self.candidate.of
        content["budget"] = {key: value for key, value in content["budget"].items() if value is not None}
        return content


@dataclasses.dataclass(frozen=True)
class Trial:
    """One (task, setting, seed): the unit of work, of resumption and of record.

    Args:
        suite: Name of the suite.
        task: What is trained.
        recipe: The suite's name for the recipe.
        setting: The recipe with every ``tune`` resolved: plain data that ``Recipe(**setting)`` takes.
        tuned: The values that ``tune`` took, by dotted key.
        stage: ``tune`` or ``final``.
        seed: Of initialisation and order; the split is fixed by the DataModule.
        data_digest: SHA-256 of the data.
        source_digests: SHA-256 of the source of each class named by ``class_path``, and of each checkpoint named.
    """

    suite: str
    task: Task
    recipe: str
    setting: dict[str, Any]
    tuned: dict[str, Any]
    stage: Stage
    seed: int
    data_digest: str
    source_digests: dict[str, str]

    @functools.cached_property
    def id(self) -> str:
        """Content hash: 16 hexadecimal digits.

        Of the task, the names of task and recipe (so that a board can be made from records alone), the setting,
        the seed, the data and the sources; not of the stage or the tuned values, which the others imply.
        """
        content = {
            "task": [self.task.name, self.task.to_dict()],
            "recipe": [self.recipe, self.setting],
            "seed": self.seed,
            "data": self.data_digest,
            "sources": self.source_digests,
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def facts(self, initial_state_digest: str = "", order_digest: str = "") -> TrialFacts:
        """What a record says of the trial.

        Args:
            initial_state_digest: Of the module before the first step, where it came so far.
            order_digest: Of the first epoch's order, where the DataModule tells it.
        """
        return TrialFacts(
            id=self.id,
            suite=self.suite,
            task=self.task.name,
            recipe=self.recipe,
            stage=self.stage,
            seed=self.seed,
            setting=self.setting,
            tuned=self.tuned,
            task_config=self.task.to_dict(),
            data_digest=self.data_digest,
            source_digests=self.source_digests,
            initial_state_digest=initial_state_digest,
            order_digest=order_digest,
        )
