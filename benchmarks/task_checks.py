"""What can be wrong between a task's module, its data and the batches cut from them, found before anything trains."""

from __future__ import annotations

import contextlib

import lightning as L
from torch import Tensor

from trainoff.benchmarks.meters.curves import check_logged
from trainoff.benchmarks.rehearsal import known_names, without_workers
from trainoff.benchmarks.trial import Task
from trainoff.errors import UserError
from trainoff.modules.classifier import Classifier
from trainoff.modules.regressor import Regressor
from trainoff.registry import arguments_of


def check_own_batch(task: Task, size: int | None) -> None:
    """Refuse a batch size, given to the DataModule by the task, that is larger than the training split.

    A DataModule's default may be larger: a small set is then one batch.

    Raises:
        UserError: Naming both numbers.
    """
    inside = "data.init_args" if "class_path" in task.data else "data"
    batch = arguments_of(task.data).get("batch_size")
    if isinstance(batch, int) and size is not None and batch > size:
        raise UserError(f"a batch of {batch} samples; the training split has {size}", f"{inside}.batch_size")


def check_targets(module: L.LightningModule, datamodule: L.LightningDataModule) -> None:
    """Refuse class numbers for a regressor, and anything else for a classifier.

    Raises:
        UserError: Naming both.
    """
    data, classes = type(datamodule).__name__, getattr(datamodule, "num_classes", None)
    if type(module) is Classifier:
        targets = _targets(datamodule)
        if targets is not None and targets.is_floating_point():
            kind = str(targets.dtype).removeprefix("torch.")
            raise UserError(f"a classifier needs class numbers; the targets of {data} are {kind}", "module")
    elif type(module) is Regressor and classes is not None:
        targets = _targets(datamodule)
        if targets is not None and not targets.is_floating_point():
            raise UserError(f"a regressor needs numbers to come close to; {data} has {classes} classes", "module")


def _targets(datamodule: L.LightningDataModule) -> Tensor | None:
    """Of the first validation batch, where it is inputs and targets."""
    with contextlib.suppress(Exception):  # a DataModule may do as it likes, and its trials tell what is wrong
        _, targets = next(iter(without_workers(datamodule.val_dataloader())))
        return targets if isinstance(targets, Tensor) else None
    return None


def check_metric(module: L.LightningModule, task: Task) -> None:
    """Refuse a metric that is known not to be logged.

    Raises:
        UserError: Naming those that are.
    """
    known = known_names(module)
    if known is not None:
        check_logged({name: None for name in known if not name.startswith("train/")}, "val", task, module)
