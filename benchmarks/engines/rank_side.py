"""What is different for a trial that is trained on several processes, inside each of them."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import lightning as L
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, IterableDataset, Sampler

from trainoff.errors import UserError
from trainoff.modules.recipe import Recipe
from trainoff.modules.recipe_module import RecipeModule


def recipe_of_rank(setting: Mapping[str, Any]) -> Recipe:
    """The recipe of a setting, as a process of a group takes it.

    The processes are there already, which is all that ``ddp_spawn`` differs in from ``ddp``. A sharded checkpoint
    would be written to a folder; a trial only weighs a whole one.
    """
    recipe = Recipe.of(setting)
    fields, strategy = recipe.to_dict(), recipe.strategy
    if isinstance(strategy, dict) and strategy.get("name") == "ddp_spawn":
        fields["strategy"] = {**strategy, "name": "ddp"}
    if isinstance(strategy, dict) and strategy.get("name") == "model_parallel":
        fields["strategy"] = {"save_distributed_checkpoint": False, **strategy}
    return Recipe.of(fields)


def replicas(trainer: L.Trainer) -> int:
    """Among how many processes each batch is shared; under tensor parallelism several see the same samples."""
    return int((trainer.distributed_sampler_kwargs or {}).get("num_replicas", 1))


def share_batches(datamodule: L.LightningDataModule, trainer: L.Trainer, module: L.LightningModule) -> None:
    """See that several processes train on the batches of one, a part each, and that each metric is of all samples.

    trainoff's own DataModules and modules do so themselves. Anyone else's DataLoader for training is given the parts
    of each batch: Lightning's sampler would deal the samples out in an order of its own. Anyone else's module may log
    what its own process has seen: every process then evaluates all samples.
    """
    if trainer.world_size == 1:
        return
    own: Any = datamodule
    own.train_dataloader = functools.partial(_train_loader, datamodule, trainer)
    if not isinstance(module, RecipeModule):
        for name in ("val_dataloader", "test_dataloader", "train_eval_dataloader"):
            if hasattr(datamodule, name):
                setattr(datamodule, name, functools.partial(_undivided, datamodule, name))


def _undivided(datamodule: L.LightningDataModule, name: str) -> Any:
    """A loader as it would be for one process."""
    trainer, datamodule.trainer = datamodule.trainer, None
    try:
        return getattr(type(datamodule), name)(datamodule)
    finally:
        datamodule.trainer = trainer


def _train_loader(datamodule: L.LightningDataModule, trainer: L.Trainer) -> Any:
    loader = type(datamodule).train_dataloader(datamodule)
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return loader
    if isinstance(loader.sampler, DistributedSampler) or hasattr(datamodule, "microbatches"):
        return loader
    kwargs = trainer.distributed_sampler_kwargs or {"num_replicas": 1, "rank": 0}
    count, rank = kwargs["num_replicas"], kwargs["rank"]
    if count == 1:
        return loader
    if type(loader.batch_sampler) is not BatchSampler or loader.batch_size is None:
        raise UserError(
            f"{type(datamodule).__name__} makes its training batches by a sampler of its own, which cannot be shared "
            f"by {count} devices; give torch's DataLoader a batch_size",
            "strategy",
        )
    # A recipe's batch has been divided by the devices; the DataModule's own is taken for global as well.
    per_device = getattr(trainer.lightning_module, "recipe", Recipe()).batch is not None
    size = loader.batch_size * (count if per_device else 1)
    batches = BatchParts(loader.sampler, size, loader.drop_last, rank, count)
    names = ("num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn", "prefetch_factor",
             "persistent_workers", "generator")  # fmt: skip
    return DataLoader(loader.dataset, batch_sampler=batches, **{name: getattr(loader, name) for name in names})


class BatchParts(Sampler[list[int]]):
    """One process' equal part of each batch that one process alone would take, in the same order.

    The order is the sampler's, which draws it from a generator that is seeded alike in all processes. Of a last batch
    that does not divide, fewer samples than there are processes are left out.

    Args:
        sampler: The order of all samples.
        batch_size: Of a whole batch.
        drop_last: Whether a smaller last batch is left out.
        rank: This process.
        count: Of how many.

    Raises:
        UserError: Where a batch does not divide.
    """

    def __init__(self, sampler: Any, batch_size: int, drop_last: bool, rank: int, count: int) -> None:
        if batch_size % count:
            raise UserError(
                f"a batch of {batch_size} cannot be shared equally by {count} devices; make it a multiple", "batch"
            )
        self.sampler = sampler
        self.batches = BatchSampler(sampler, batch_size, drop_last)
        self.batch_size, self.rank, self.count = batch_size, rank, count

    def __len__(self) -> int:
        """Batches in an epoch: a last one with fewer samples than processes is none."""
        whole, rest = divmod(len(self.sampler), self.batch_size)
        return whole + (rest >= self.count and not self.batches.drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        """The positions of each part."""
        for batch in self.batches:
            share = len(batch) // self.count
            if share:
                yield batch[self.rank * share : (self.rank + 1) * share]
