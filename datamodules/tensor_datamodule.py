"""The base of the DataModules whose set fits into memory."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import lightning as L
import numpy as np
import torch
from torch import Tensor

from trainoff.datamodules.registry import DataModuleEntry
from trainoff.datamodules.splits import RawData, SplitPlan
from trainoff.datamodules.standardisation import Statistics
from trainoff.datamodules.tensor_batches import TensorBatches, epoch_order
from trainoff.errors import UserError
from trainoff.seeds import derive_seed

_EVALUATION_BATCH = 2048  # large, for speed: evaluation keeps no activations for a backward pass


class TensorDataModule(L.LightningDataModule, ABC):
    """A DataModule that keeps its whole set as tensors and slices batches from them.

    A subclass sets ``facts`` and implements :meth:`raw_data`. The split depends on ``split_seed`` alone, and is
    stratified for classification; the order of training samples depends on the global seed at the first
    :meth:`setup`. Inputs are standardised with the mean and the standard deviation of the training split, for
    regression the targets too (``target_statistics`` keeps both, to report errors in the original unit). Batches are
    tuples of inputs, float32 ``(batch, *input_shape)``, and targets: int64 ``(batch,)`` for classification, float32
    ``(batch, 1)`` for regression. The attributes ``input_shape`` (without the batch), ``num_classes`` (None for
    regression), ``output_size`` (``num_classes``, or 1), ``task``, ``licence``, ``citation`` and ``size_bytes`` come
    from ``facts``, and are there before the data are.

    Args:
        batch_size: Samples in a global training batch, over all devices; ``"full"`` for the whole training split.
            It may be set later, as Recipes do, until the loaders are built.
        microbatches: Parts in which each training batch is delivered, for gradient accumulation. May be set later.
        split_seed: The seed of the split, of the label noise, and of which training samples are kept.
        val_fraction: The share of the samples (official test split aside) that validates.
        test_fraction: The share of the samples that tests; None where the set has an official test split.
        label_noise: The share of training labels to replace by another class, all others equally likely.
            Validation and test labels stay.
        train_samples: Keep only so many training samples, stratified like the split; a smaller number keeps a subset
            of what a larger one keeps. None for all.
        replacement: Draw training samples with replacement.

    Raises:
        UserError: Where a fraction is out of range, or label noise is asked of a regression.
    """

    facts: ClassVar[DataModuleEntry]
    per_feature: ClassVar[bool] = False  # one mean and standard deviation a feature, in place of one for all inputs

    def __init__(
        self,
        batch_size: int | Literal["full"] = 128,
        microbatches: int = 1,
        split_seed: int = 0,
        val_fraction: float = 0.2,
        test_fraction: float | None = 0.2,
        label_noise: float = 0.0,
        train_samples: int | None = None,
        replacement: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        facts = self.facts
        self.input_shape, self.num_classes, self.task = facts.input_shape, facts.num_classes, facts.task
        self.output_size = facts.num_classes or 1
        self.licence, self.citation, self.size_bytes = facts.licence, facts.citation, facts.size_bytes
        if label_noise and self.task == "regression":
            raise UserError(f"'{self.facts.name}' is a regression, which has no labels; leave it out", "label_noise")
        self.batch_size = batch_size
        self.microbatches = microbatches
        self.replacement = replacement
        self._plan = SplitPlan(split_seed, val_fraction, test_fraction, label_noise, train_samples)
        self.input_statistics: Statistics | None = None
        self.target_statistics: Statistics | None = None
        self._splits: dict[str, tuple[Tensor, Tensor]] = {}
        self._order_seed = 0

    @abstractmethod
    def raw_data(self) -> RawData:
        """Load the set from disk, or generate it, without touching the global random state."""

    def setup(self, stage: str | None = None) -> None:
        """Load, split and standardise, the first time; later calls do nothing, whatever their stage."""
        if self._splits:
            return
        self._order_seed = derive_seed(torch.initial_seed(), "order")
        splits = self._plan.cut(self.raw_data(), self.num_classes)
        self.input_statistics = Statistics.of(splits.train.inputs, self.per_feature)
        if self.num_classes is None:
            self.target_statistics = Statistics.of(splits.train.targets, per_feature=True)
        numbers = self.target_statistics
        for name, (inputs, targets) in splits._asdict().items():
            answers = targets.astype(np.int64) if numbers is None else numbers.apply(targets[:, None])
            self._splits[name] = torch.from_numpy(self.input_statistics.apply(inputs)), torch.from_numpy(answers)

    def split(self, name: str) -> tuple[Tensor, Tensor]:
        """Inputs and targets of ``"train"``, ``"val"`` or ``"test"``, standardised, on the CPU."""
        self.setup()
        return self._splits[name]

    def train_dataloader(self) -> TensorBatches:
        """The training split in batches of ``batch_size``, in a new order each epoch."""
        # Lightning cannot switch the shuffling of a loader that is not torch's off, and overfitting needs one order.
        shuffle = not getattr(self.trainer, "overfit_batches", 0)
        options = {"shuffle": shuffle, "seed": self._order_seed, "replacement": self.replacement and shuffle}
        parts = {"microbatches": self.microbatches, "equal_shares": True}
        return self._batches(self.split("train"), self.batch_size, **options, **parts)

    def train_eval_dataloader(self) -> TensorBatches:
        """A fixed part of the training split, as large as the test split, with the labels used for training."""
        count = len(self.split("test")[0])
        inputs, targets = self.split("train")
        return self._batches((inputs[:count], targets[:count]), _EVALUATION_BATCH)

    def val_dataloader(self) -> TensorBatches:
        """The validation split in large batches, in a fixed order."""
        return self._batches(self.split("val"), _EVALUATION_BATCH)

    def test_dataloader(self) -> TensorBatches:
        """The test split in large batches, in a fixed order."""
        return self._batches(self.split("test"), _EVALUATION_BATCH)

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
        order = epoch_order(len(self.split("train")[0]), self._order_seed, 0, self.replacement)
        return hashlib.sha256(order.numpy().data).hexdigest()
