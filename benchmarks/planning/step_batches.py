"""The batches of one step as a task's DataModule gives them."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import lightning as L
from lightning.pytorch.utilities.data import extract_batch_size
from torch import Tensor

from trainoff.benchmarks.provenance import train_size
from trainoff.benchmarks.rehearsal import without_workers
from trainoff.datamodules.in_memory import InMemoryDataModule
from trainoff.errors import UserError
from trainoff.modules.recipe import Recipe


def samples_of_step(datamodule: L.LightningDataModule, recipe: Recipe) -> int:
    """The global batch: the recipe's, or the DataModule's own.

    Raises:
        UserError: Where neither is known.
    """
    batch = recipe.batch if recipe.batch is not None else getattr(datamodule, "batch_size", None)
    if batch == "full":
        batch = train_size(datamodule)
    if not isinstance(batch, int):
        return extract_batch_size(next(iter(without_workers(datamodule.train_dataloader()))))
    size = train_size(datamodule)
    return batch if size is None else min(batch, size)


def step_batches(datamodule: L.LightningDataModule, recipe: Recipe, samples: int) -> list[Any]:
    """The micro-batches of one step with so many samples.

    Args:
        datamodule: Set up for ``fit``; it is left as it is.
        recipe: Whose micro-batches.
        samples: Of the step, on one device.

    Raises:
        UserError: Where the loader has no batch.
    """
    copied: Any = copy.copy(datamodule)
    copied.save_hyperparameters(dict(datamodule.hparams))
    splits_itself = hasattr(copied, "microbatches")
    if splits_itself:
        copied.microbatches = recipe.microbatches
    if hasattr(copied, "batch_size"):
        copied.batch_size = samples if splits_itself else max(1, samples // recipe.microbatches)
    batches = list(itertools.islice(iter(without_workers(copied.train_dataloader())), recipe.microbatches))
    if not batches:
        raise UserError(f"{type(datamodule).__name__} has no batch for training", "data")
    return batches


def bytes_of_data(datamodule: L.LightningDataModule) -> int:
    """What the DataModule keeps on the device: its whole set, where it is one of trainoff's in memory."""
    if not isinstance(datamodule, InMemoryDataModule):
        return 0
    tensors: list[Tensor] = [tensor for name in ("train", "val", "test") for tensor in datamodule.stored(name)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
