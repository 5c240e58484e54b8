"""What one trial leaves behind: a JSON document with a versioned schema, validated on reading.

Units are in the names. A number that could not be measured, or that is not finite, is ``null``. Importing this
module needs neither torch nor lightning, so that a board can be read anywhere.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

SCHEMA_VERSION = 3

# The type of an error where one of a trial's processes was ended by a signal from outside, which says nothing of its
# recipe; and where it died of itself.
RANK_KILLED = "RankKilled"
RANK_DIED = "RankDied"

Status = Literal["ok", "diverged", "out_of_memory", "timed_out", "crashed", "interrupted"]


class Section(msgspec.Struct, forbid_unknown_fields=True):
    """Base of the record's parts: unknown keys are refused."""


class TrialFacts(Section):
    """Which trial this was.

    Attributes:
        id: Content hash of the trial (task, recipe, setting, seed, data and source digests).
        stage: ``tune`` for a trial that a setting is chosen from, ``final`` for one that the standings come from.
        setting: The resolved recipe: plain data, no ``tune`` left in it.
        tuned: The values that ``tune`` took in this setting, by dotted key (``{"optimizer.lr": 0.01}``).
        task_config: The task as the suite states it: module, data, metric, target, budget.
        data_digest: SHA-256 of the data of all three splits.
        source_digests: SHA-256 of the source of each class named by ``class_path``, and of each checkpoint named.
        initial_state_digest: SHA-256 of the module's state before the first step.
        order_digest: SHA-256 of the sample order of the first epoch, where the DataModule tells it.
    """

    id: str
    suite: str
    task: str
    recipe: str
    stage: Literal["tune", "final"]
    seed: int
    setting: dict[str, Any]
    tuned: dict[str, Any] = {}
    task_config: dict[str, Any] = {}
    data_digest: str = ""
    source_digests: dict[str, str] = {}
    initial_state_digest: str = ""
    order_digest: str = ""


class Environment(Section):
    """Where and beside what it ran.

    Attributes:
        packages: Versions of the packages that decide the numbers.
        hardware: The processor's or accelerator's model name.
        device: ``cpu``, ``cuda``, ``mps`` or ``xla``.
        git: Commit of the working directory, with ``-dirty`` where it was; empty outside a repository.
        threads: Torch threads of the worker.
        trials_beside: How many other trials could run on the machine at the same time.
        engine: How it was trained (``trainer``).
        resumptions: How many times it went on from a checkpoint, as its process had ended. Peak memory is then of the
            last process.
    """

    packages: dict[str, str]
    python: str
    platform: str
    hardware: str
    device: str
    devices: int = 1
    git: str = ""
    threads: int = 1
    trials_beside: int = 0
    engine: str = "trainer"
    resumptions: int = 0


class Scores(Section):
    """One split at one moment: the task's metric and the loss (mean over samples, no penalty)."""

    metric: float | None = None
    loss: float | None = None


class Splits(Section):
    """The three splits at one moment; train is a fixed subset as large as test, in eval mode."""

    train: Scores = msgspec.field(default_factory=Scores)
    val: Scores = msgspec.field(default_factory=Scores)
    test: Scores = msgspec.field(default_factory=Scores)


class Quality(Section):
    """How good it became.

    Attributes:
        metric: Name of the task's metric.
        mode: ``max`` where more is better, else ``min``.
        best_epoch: Epoch (from 1) of the best validation metric.
        best: Scores with the parameters of that epoch.
        last: Scores with the parameters of the last epoch.
    """

    metric: str
    mode: Literal["max", "min"]
    best_epoch: int | None = None
    best: Splits = msgspec.field(default_factory=Splits)
    last: Splits = msgspec.field(default_factory=Splits)


class Overfitting(Section):
    """How much it overfitted, at the last epoch. Both gaps are positive where train looks better than test.

    Attributes:
        gap_metric: Train minus test metric (test minus train where less is better).
        gap_loss: Test minus train loss.
        onset_epoch: Epoch (from 1) of the least validation loss.
        val_loss_rise: Validation loss at the last epoch minus the least one.
    """

    gap_metric: float | None = None
    gap_loss: float | None = None
    onset_epoch: int | None = None
    val_loss_rise: float | None = None


class Cost(Section):
    """What it cost. Times of training leave out evaluation.

    Attributes:
        train_seconds: Seconds in training steps, fetching their batches included.
        wall_seconds: Seconds of the whole trial, set-up and evaluation included.
        samples_per_second: Training samples a second, the first steps (warm-up) left out.
        step_seconds_p50: Median seconds of an optimizer step, the first steps left out; p95 likewise.
        seconds_to_target: Training seconds until the validation metric first reached the task's target.
        peak_memory_bytes: Peak resident memory of the process (CPU) or peak allocated memory (accelerator); over
            several ranks the largest one's.
        peak_memory_bytes_by_rank: Each rank's, where there are several (since schema 3).
        parameters: Trainable parameters.
        optimizer_state_bytes: Bytes in the optimizer's state at the end.
        checkpoint_bytes: Bytes of a full checkpoint at the end.
        flops_per_sample: Floating-point operations, forward and backward, for one training sample.
        latency_seconds: Median seconds of a forward pass for one sample alone, in eval mode, before the first
            validation (since schema 2).
    """

    train_seconds: float | None = None
    wall_seconds: float | None = None
    steps: int = 0
    epochs: int = 0
    samples_per_second: float | None = None
    step_seconds_p50: float | None = None
    step_seconds_p95: float | None = None
    seconds_to_target: float | None = None
    steps_to_target: int | None = None
    epochs_to_target: int | None = None
    peak_memory_bytes: int | None = None
    peak_memory_bytes_by_rank: list[int | None] = []
    parameters: int | None = None
    optimizer_state_bytes: int | None = None
    checkpoint_bytes: int | None = None
    flops_per_sample: int | None = None
    latency_seconds: float | None = None


class Stability(Section):
    """How steadily it trained: the last step whose loss was finite (from 1), and the spikes of the loss.

    Attributes:
        loss_spikes: Epochs whose mean training loss is more than twice the least one before it.
    """

    last_finite_step: int | None = None
    loss_spikes: int = 0


class Compression(Section):
    """What pruning has come to, in the state that ``quality.best`` is of.

    Attributes:
        sparsity: Share of zeros among the weights that can be pruned: those of two and more dimensions, norms and
            embeddings left out.
        sparsity_all: Share of zeros among all parameters.
        bytes_on_disk: Bytes of the module's state as a file of ``torch.save``, each tensor as one bit an entry and the
            entries that are not zero, where that is shorter; quantised weights as they are.
        dense_bytes: Bytes of the same state, saved as it is.
        latency_seconds: Median seconds of the forward pass of one sample, in eval mode, the first ones left out.
            Masked weights are multiplied like any other.
        dense_latency_seconds: The same without quantisation.
        metric_before: Validation metric just before the first pruning: of the last validation until then (of the same
            epoch, unquantised, where the method acts after training).
        metric_after: Validation metric of the pruned state: ``quality.best``.
        pruned: How many times a weight was pruned.
        spliced: How many times a pruned weight came back.
    """

    sparsity: float | None = None
    sparsity_all: float | None = None
    bytes_on_disk: int | None = None
    dense_bytes: int | None = None
    latency_seconds: float | None = None
    dense_latency_seconds: float | None = None
    metric_before: float | None = None
    metric_after: float | None = None
    pruned: int = 0
    spliced: int = 0


class Curves(Section):
    """One value an epoch. ``train_loss`` is the running mean in training mode; validation is in eval mode."""

    train_loss: list[float | None] = []
    val_loss: list[float | None] = []
    val_metric: list[float | None] = []
    learning_rate: list[float | None] = []
    gradient_norm: list[float | None] = []
    weight_norm: list[float | None] = []
    train_seconds: list[float | None] = []
    steps: list[int] = []


class Failure(Section):
    """Why a trial did not end well: the exception's type, its message in one line, and its traceback."""

    type: str
    message: str
    traceback: str = ""


class Record(Section, kw_only=True):
    """Everything that one trial left.

    Attributes:
        compression: ``None`` where the recipe prunes nothing.
    """

    schema_version: int = SCHEMA_VERSION
    trial: TrialFacts
    status: Status
    error: Failure | None = None
    environment: Environment | None = None
    quality: Quality | None = None
    overfitting: Overfitting = msgspec.field(default_factory=Overfitting)
    cost: Cost = msgspec.field(default_factory=Cost)
    stability: Stability = msgspec.field(default_factory=Stability)
    curves: Curves = msgspec.field(default_factory=Curves)
    compression: Compression | None = None


class UnreadableRecord(ValueError):
    """A file that is not a record this version can read; the message says why in one line."""


_decoder = msgspec.json.Decoder(Record)


def to_json(record: Record) -> bytes:
    """The record as indented UTF-8 JSON; non-finite numbers become ``null``."""
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"


def from_json(document: bytes) -> Record:
    """Read a record.

    Raises:
        UnreadableRecord: For a truncated or foreign document, or one of a newer schema.
    """
    try:
        record = _decoder.decode(document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableRecord(_reason(document, error)) from error
    if record.schema_version > SCHEMA_VERSION:
        raise UnreadableRecord(_newer(record.schema_version))
    # Version 2 adds `compression`, version 3 `cost.peak_memory_bytes_by_rank`, and both may be absent: a record of an
    # older version is one of this version as it stands.
    record.schema_version = SCHEMA_VERSION
    return record


def _reason(document: bytes, error: Exception) -> str:
    try:
        content = msgspec.json.decode(document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return f"not JSON, or truncated ({error})"
    version = content.get("schema_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        return _newer(version)
    return f"not a trainoff record ({error})"


def _newer(version: int) -> str:
    return f"written by a newer trainoff (record schema {version}; this version reads up to {SCHEMA_VERSION})"
