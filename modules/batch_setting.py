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
        UserError: Where there is no ``batch_size`` to set, the batch is larger than the data or does not divide, or
            parts are asked of a batch that only the source knows and does not split.
    """
    source = _source(trainer, module)
    splits_itself = hasattr(source, "microbatches")
    if splits_itself:
        source.microbatches = recipe.microbatches
    if recipe.batch is None:
        if recipe.microbatches > 1 and not splits_itself:  # a step would take that many batches of the source's size
            owner = "given loaders" if source is None else type(source).__name__
            raise UserError(f"{owner} cannot split its own batches; say batch too", "microbatches")
        return
    if source is None or not (hasattr(source, "batch_size") or "batch_size" in source.hparams):
        owner = "fit was given loaders" if source is None else f"{type(source).__name__} has no batch_size"
        raise UserError(f"the recipe asks for {recipe.batch}, but {owner}; leave batch out, or offer it", "batch")
    size = _size_before_setup(module) if source is module else train_size(source)
    _refuse_larger(recipe, size)
    batch = recipe.batch if splits_itself else _part(recipe, trainer, source, size)
    lightning_setattr(module, "batch_size", batch)


def check_batch_of_module(recipe: Recipe, trainer: L.Trainer, module: L.LightningModule) -> None:
    """Compare the batch with the data of a module that makes its own loader, when its own ``setup`` is over.

    Raises:
        UserError: Where the batch is larger.
    """
    if recipe.batch is not None and _source(trainer, module) is module:
        _refuse_larger(recipe, train_size(module))


def resume_loaders(trainer: L.Trainer) -> None:
    """Let the loaders go on where the checkpoint left them within an epoch.

    Lightning does so when it makes them, but a recipe has them made earlier, to know the number of steps, when the
    checkpoint's loops are not yet restored.
    """
    loop = trainer.fit_loop
    if loop.restarting and loop._combined_loader_states_to_load and loop._data_fetcher is not None:
        loop._load_combined_loader_states()
        iter(loop._data_fetcher)  # some loaders look at their state only when an iterator is made


def _source(trainer: L.Trainer, module: L.LightningModule) -> Any:
    source = getattr(trainer, "datamodule", None)
    return module if source is None and is_overridden("train_dataloader", module) else source


def _refuse_larger(recipe: Recipe, size: int | None) -> None:
    if isinstance(recipe.batch, int) and size is not None and recipe.batch > size:
        raise UserError(f"a batch of {recipe.batch} samples; the training split has {size}", "batch")


def _size_before_setup(module: L.LightningModule) -> int | None:
    """Lightning sets the module up after the callbacks, so that there may be no data yet."""
    try:
        return train_size(module)
    except Exception:  # whatever it is, Lightning meets it again
        return None


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
