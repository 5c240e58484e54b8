"""What a W&B run of a trial holds: made from its record alone, the same whether it is sent live or afterwards."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from trainoff.benchmarks.record import Curves, Record, Scores, TrialFacts, to_json
from trainoff.benchmarks.secret_scan import without_secrets
from trainoff.leaderboards.numbers import metric_text, plain, setting_text
from trainoff.leaderboards.tuning_results import short_names

TAG = "trainoff"
SUPERSEDED = "superseded"  # of a run whose trial was trained again
_LONGEST_TAG = 64  # W&B refuses longer ones
LONGEST_NAME = 120

EPOCH = "epoch"
# The record's curve -> the name under which it is logged; {} is the task's metric.
CURVES = {
    "train_loss": "train/loss",
    "val_loss": "val/loss",
    "val_metric": "val/{}",
    "learning_rate": "learning_rate",
    "gradient_norm": "gradient_norm",
    "weight_norm": "weight_norm",
    "train_seconds": "train_seconds",
    "steps": "steps",
}


class RunContent(msgspec.Struct, kw_only=True):
    """A W&B run, as plain data.

    Attributes:
        name: What the run is called in W&B's tables.
        group: The task.
        job_type: The recipe.
        tags: ``trainoff``, the suite and the stage.
        config: The fields of the record's ``trial`` by their own names, and its ``environment``.
        rows: One an epoch; the epoch is the step, from 1.
        summary: The record's figures under flat names.
        has_failed: Whether the trial did not end well.
        record: The record's JSON, from which ``trainoff pull`` makes it again.
    """

    name: str
    group: str
    job_type: str
    tags: list[str]
    config: dict[str, Any]
    rows: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    has_failed: bool = False
    record: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()


def content_of(record: Record) -> RunContent:
    """The whole run of a record. What looks like a secret is left out."""
    clean = msgspec.convert(without_secrets(msgspec.to_builtins(record)), Record)
    begun = begun_content(clean.trial)
    begun.config["environment"] = msgspec.to_builtins(clean.environment)
    begun.rows = rows_of(clean.curves, metric_of(clean.trial))
    begun.summary = summary_of(clean)
    begun.has_failed = clean.status != "ok"
    begun.record = to_json(clean).decode()
    return begun


def begun_content(trial: TrialFacts) -> RunContent:
    """What is known of a run before the trial has ended."""
    facts = without_secrets(msgspec.to_builtins(trial))
    config = {**facts, "tuned": nested(facts["tuned"])}
    tags = [TAG, *(plain(text)[:_LONGEST_TAG] for text in (trial.suite, trial.stage) if text)]
    return RunContent(
        name=run_name(trial)[:LONGEST_NAME],
        group=plain(trial.task)[:LONGEST_NAME],
        job_type=plain(trial.recipe)[:LONGEST_NAME],
        tags=list(dict.fromkeys(tags)),
        config=config,
    )


def run_name(trial: TrialFacts) -> str:
    """``adamw on digits-mlp, seed 3``; of a tuning trial also the values that it tries."""
    name = f"{plain(trial.recipe)} on {plain(trial.task)}, seed {trial.seed}"
    if trial.stage == "final":
        return name
    names = short_names(list(trial.tuned))
    tried = ", ".join(f"{names[key]}={setting_text(value)}" for key, value in trial.tuned.items())
    return f"{name}, tuning {tried}".rstrip()


def metric_of(trial: TrialFacts) -> str:
    """The short name of the task's metric."""
    return metric_name(trial.task_config)


def metric_name(task_config: dict[str, Any]) -> str:
    """The short name of a task's metric."""
    return metric_text(str(task_config.get("metric", "metric")))


def rows_of(curves: Curves, metric: str) -> list[dict[str, Any]]:
    """One row an epoch under the names of :data:`CURVES`; what could not be measured is left out."""
    columns = {field: getattr(curves, field) for field in CURVES}
    count = max(map(len, columns.values()))
    return [
        row_of(
            {EPOCH: index + 1, **{field: column[index] for field, column in columns.items() if index < len(column)}},
            metric,
        )
        for index in range(count)
    ]


def row_of(values: dict[str, Any], metric: str) -> dict[str, Any]:
    """One epoch's values, by the record's names, as they are logged."""
    row = {EPOCH: values[EPOCH]}
    row |= {label.format(metric): values[field] for field, label in CURVES.items() if values.get(field) is not None}
    return row


def summary_of(record: Record) -> dict[str, Any]:
    """The record's figures: ``best/test/accuracy``, ``overfitting/gap_loss``, ``cost/train_seconds``, ``status``."""
    metric = metric_of(record.trial)
    summary: dict[str, Any] = {"status": record.status}
    if record.quality is not None:
        summary["best_epoch"] = record.quality.best_epoch
        for moment in ("best", "last"):
            for split in ("train", "val", "test"):
                scores: Scores = getattr(getattr(record.quality, moment), split)
                summary[f"{moment}/{split}/{metric}"] = scores.metric
                summary[f"{moment}/{split}/loss"] = scores.loss
    for section in ("overfitting", "cost", "stability", "compression"):
        part = getattr(record, section)
        if part is not None:
            summary |= {f"{section}/{key}": value for key, value in msgspec.structs.asdict(part).items()}
    if record.error is not None:
        summary |= {"error/type": record.error.type, "error/message": record.error.message}
    return {key: value for key, value in summary.items() if value is not None}


def nested(dotted: dict[str, Any]) -> dict[str, Any]:
    """``{"optimizer.lr": 0.1}`` as ``{"optimizer": {"lr": 0.1}}``: W&B reads a dot in a name as a level."""
    tree: dict[str, Any] = {}
    for key, value in dotted.items():
        node = tree
        *path, last = key.split(".")
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return tree
