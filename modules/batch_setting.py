"""A recipe's batch handed to the DataModule, by Lightning's convention of a ``batch_size`` attribute."""

from __future__ import annotations

from collections.abc import Sized
from typing import TYPE_CHECKING, Any

import lightning as L
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.parsing import lightning_setattr

from trainoff.errors import UserError

if TYPE_CHECKING:
    from trainoff.modules.recipe import Recipe


def set_batch(recipe: Recipe, trainer: L.Trainer, module: L.LightningModule) -> None:
    """Set the source's ``batch_size`` so that all devices together get the recipe's batch.

    The source is the DataModule, or the module where it makes its own loader. One with ``microbatches`` splits global
    batches itself, over devices too; any other gets one device's part of one micro-batch.

    Raises:
        UserError: Where there is no ``batch_size`` to set, or the batch is larger than the data or does not divide.
    """
    source: Any = getattr(trainer, "datamodule", None)
    if source is None and is_overridden("train_dataloader", module):
        source = module
    splits_itself = hasattr(source, "microbatches")
    if splits_itself:
        source.microbatches = recipe.microbatches
    if recipe.batch is None:
        return
    if source is None or not (hasattr(source, "batch_size") or "batch_size" in source.hparams):
        owner = "fit was given loaders" if source is None else f"{type(source).__name__} has no batch_size"
        raise UserError(f"the recipe asks for {recipe.batch}, but {owner}; leave batch out, or offer it", "batch")
    size = train_size(source)
    if isinstance(recipe.batch, int) and size is not None and recipe.batch > size:
        raise UserError(f"a batch of {recipe.batch} samples; the training split has {size}", "batch")
    batch = recipe.batch if splits_itself else _part(recipe, trainer, source, size)
    lightning_setattr(module, "batch_size", batch)


def train_size(source: Any) -> int | None:
    """Samples in the training split, where they can be counted without iterating."""
    split = getattr(source, "split", None)
    if callable(split):
        return len(split("train")[0])
    dataset = getattr(source.train_dataloader(), "dataset", None)
    return len(dataset) if isinstance(dataset, Sized) else None


def _part(recipe: Recipe, trainer: L.Trainer, source: Any, size: int | None) -> int:
    """What one device is given at a time, by a loader that a distributed sampler will split over devices."""
    devices = int((trainer.distributed_sampler_kwargs or {}).get("num_replicas", 1))
    parts = recipe.microbatches * devices
    name = type(source).__name__
    if recipe.batch == "full":
        if size is None:
            raise UserError(f"the length of {name}'s training set is not known, so that none is full", "batch")
        return -(-size // parts)
    batch = int(recipe.batch or 0)
    if batch % parts:
        of = f"{recipe.microbatches} parts" if devices == 1 else f"{recipe.microbatches} parts on {devices} devices"
        raise UserError(
            f"{batch} does not divide into {of}, and {name} has no attribute 'microbatches' by which it could split "
            "batches itself",
            "microbatches" if devices == 1 else "batch",
        )
    return batch // parts
