"""The base of the DataModules whose set fits into memory: batches are sliced from tensors."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import lightning as L
import torch
from torch import Tensor

from trainoff.datamodules.alteration_registry import Alteration
from trainoff.datamodules.facts.entry import DataModuleEntry
from trainoff.datamodules.tensor_batches import BatchTransform, TensorBatches, epoch_order
from trainoff.errors import UserError
from trainoff.seeds import derive_seed

_EVALUATION_BATCH = 2048  # large, for speed: evaluation keeps no activations for a backward pass


class InMemoryDataModule(L.LightningDataModule, ABC):
    """A DataModule that keeps its whole set as tensors and slices batches from them, on the Trainer's device.

    A subclass sets ``facts`` and implements :meth:`load_splits`. Batches are tuples of inputs and targets. The order
    of training samples depends on the global seed at the first :meth:`setup`. The attributes ``input_shape`` (without
    the batch), ``num_classes``, ``output_size``, ``task``, ``licence``, ``citation`` and ``size_bytes`` come from
    ``facts``, and are there before the data are; where they depend on the data, :meth:`load_splits` sets them.
    Two more are read at the first :meth:`setup`, and may be set until then: ``alterations``, which change the splits
    one after the other, and ``train_eval_samples``, the size of the part of the training split that
    :meth:`train_eval_dataloader` gives (by default that of the test split).

    Args:
        batch_size: Samples in a global training batch, over all devices; ``"full"`` for the whole training split.
            It may be set later, as Recipes do, until the loaders are built.
        microbatches: Parts in which each training batch is delivered, for gradient accumulation. May be set later.
        replacement: Draw training samples with replacement.
    """

    facts: ClassVar[DataModuleEntry]
    evaluation_batch: ClassVar[int] = _EVALUATION_BATCH  # less for samples with large outputs

    def __init__(
        self, batch_size: int | Literal["full"] = 128, microbatches: int = 1, replacement: bool = False
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        facts = self.facts
        self.input_shape, self.num_classes, self.task = facts.input_shape, facts.num_classes, facts.task
        self.output_size = facts.num_classes or 1
        self.licence, self.citation, self.size_bytes = facts.licence, facts.citation, facts.size_bytes
        self.batch_size = batch_size
        self.microbatches = microbatches
        self.replacement = replacement
        self.alterations: Sequence[Alteration] = ()
        self.train_eval_samples: int | None = None
        self._splits: Mapping[str, tuple[Tensor, Tensor]] = {}
        self._order_seed = 0

    @abstractmethod
    def load_splits(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        """Inputs and targets of ``train``, ``val`` and ``test``, on the CPU, without touching the global random state.

        They depend on the arguments alone.
        """

    def setup(self, stage: str | None = None) -> None:
        """Load the splits, the first time; later calls do nothing, whatever their stage."""
        if self._splits:
            return
        self._order_seed = derive_seed(torch.initial_seed(), "order")
        splits = self.load_splits()
        for alteration in self.alterations:
            splits = alteration.apply(splits, self.num_classes)
        self._splits = splits

    def stored(self, name: str) -> tuple[Tensor, Tensor]:
        """Inputs and targets of ``"train"``, ``"val"`` or ``"test"`` as kept, altered where alterations are set."""
        self.setup()
        return self._splits[name]

    def split(self, name: str) -> tuple[Tensor, Tensor]:
        """Inputs and targets of ``"train"``, ``"val"`` or ``"test"``, as a net is given them for evaluation."""
        return self.stored(name)

    def batch_transform(self, training: bool) -> BatchTransform | None:
        """What is done to the stored batches on their way to the net; augmentation in training only."""
        return None

    def train_dataloader(self) -> TensorBatches:
        """The training split in batches of ``batch_size``, in a new order each epoch."""
        # Lightning cannot switch the shuffling of a loader that is not torch's off, and overfitting needs one order.
        shuffle = not getattr(self.trainer, "overfit_batches", 0)
        options = {"shuffle": shuffle, "seed": self._order_seed, "replacement": self.replacement and shuffle}
        parts = {"microbatches": self.microbatches, "equal_shares": True, "transform": self.batch_transform(True)}
        return self._batches(self.stored("train"), self.batch_size, **options, **parts)

    def train_eval_dataloader(self) -> TensorBatches:
        """A fixed part of the training split, as large as the test split, with the labels used for training.

        Raises:
            UserError: Where ``train_eval_samples`` asks for more than there are.
        """
        inputs, targets = self.stored("train")
        count = len(self.stored("test")[0]) if self.train_eval_samples is None else self.train_eval_samples
        if self.train_eval_samples is not None and not 1 <= count <= len(inputs):
            raise UserError(f"{count} is not from 1 to the {len(inputs)} training samples", "train_eval_samples")
        return self._evaluation((inputs[:count], targets[:count]))

    def val_dataloader(self) -> TensorBatches:
        """The validation split in large batches, in a fixed order."""
        return self._evaluation(self.stored("val"))

    def test_dataloader(self) -> TensorBatches:
        """The test split in large batches, in a fixed order."""
        return self._evaluation(self.stored("test"))

    def _evaluation(self, tensors: tuple[Tensor, Tensor]) -> TensorBatches:
        return self._batches(tensors, self.evaluation_batch, transform=self.batch_transform(False))

    def _batches(self, tensors: tuple[Tensor, ...], size: int | Literal["full"], **options: Any) -> TensorBatches:
        if self.trainer is None:
            return TensorBatches(tensors, size, **options)
        # not the global rank: under tensor parallelism several ranks see the same batch
        if ranks := self.trainer.distributed_sampler_kwargs:
            options |= {"rank": ranks["rank"], "world_size": ranks["num_replicas"]}
        return TensorBatches(tensors, size, device=self.trainer.strategy.root_device, **options)

    def digest(self) -> str:
        """SHA-256 of all splits: type, shape and bytes of each tensor."""
        state = hashlib.sha256()
        for name in ("train", "val", "test"):
            for tensor in self.split(name):
                state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
                state.update(tensor.numpy().data)
        return state.hexdigest()

    def order_digest(self) -> str:
        """SHA-256 of the indices in the order of the first training epoch."""
        order = epoch_order(len(self.stored("train")[0]), self._order_seed, 0, self.replacement)
        return hashlib.sha256(order.numpy().data).hexdigest()
