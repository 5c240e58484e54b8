"""What can be wrong between a task's module, its data and the batches cut from them, found before anything trains."""

from __future__ import annotations

import contextlib
from typing import Any

import lightning as L
from torch import Tensor

from trainoff.benchmarks.meters.curves import check_logged
from trainoff.benchmarks.rehearsal import known_names, without_workers
from trainoff.benchmarks.trial import Task
from trainoff.errors import UserError
from trainoff.modules.classifier import Classifier
from trainoff.modules.regressor import Regressor
from trainoff.modules.supervised_module import refuse_token_targets
from trainoff.modules.token_module import TokenModule
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
    """Refuse class numbers for a regressor, anything else for a classifier, and what is no tokens for a token module.

    Raises:
        UserError: Naming both.
    """
    if not (type(module) in (Classifier, Regressor) or isinstance(module, TokenModule)):
        return
    batch = _first_batch(datamodule)
    if isinstance(module, TokenModule):
        if batch is not None:
            module.check_batch(batch)
        return
    data, classes = type(datamodule).__name__, getattr(datamodule, "num_classes", None)
    targets = _targets(batch)
    if targets is None:
        return
    if type(module) is Classifier:
        refuse_token_targets(batch, "a classifier gives one class a sample")
        if targets.is_floating_point():
            kind = str(targets.dtype).removeprefix("torch.")
            raise UserError(f"a classifier needs class numbers; the targets of {data} are {kind}", "module")
    else:
        refuse_token_targets(batch, "a regressor needs numbers to come close to")
        if classes is not None and not targets.is_floating_point():
            raise UserError(f"a regressor needs numbers to come close to; {data} has {classes} classes", "module")


def _first_batch(datamodule: L.LightningDataModule) -> Any:
    """Of validation."""
    with contextlib.suppress(Exception):  # a DataModule may do as it likes, and its trials tell what is wrong
        return next(iter(without_workers(datamodule.val_dataloader())))
    return None


def _targets(batch: Any) -> Tensor | None:
    """Of a batch, where it is inputs and targets."""
    is_pair = isinstance(batch, (tuple, list)) and len(batch) == 2
    return batch[1] if is_pair and isinstance(batch[1], Tensor) else None


def check_metric(module: L.LightningModule, task: Task) -> None:
    """Refuse a metric that is known not to be logged.

    Raises:
        UserError: Naming those that are.
    """
    known = known_names(module)
    if known is not None:
        check_logged({name: None for name in known if not name.startswith("train/")}, "val", task, module)
