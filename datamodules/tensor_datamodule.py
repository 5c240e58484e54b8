"""The base of the DataModules of numbers: a raw set is split and standardised."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from trainoff.datamodules.in_memory import InMemoryDataModule
from trainoff.datamodules.splits import RawData, SplitPlan
from trainoff.datamodules.standardisation import Statistics
from trainoff.errors import UserError


class TensorDataModule(InMemoryDataModule):
    """A DataModule of numbers and their targets, classes or numbers, which are split and standardised.

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
        super().__init__(batch_size, microbatches, replacement)
        if label_noise and self.task == "regression":
            raise UserError(f"'{self.facts.name}' is a regression, which has no labels; leave it out", "label_noise")
        self._plan = SplitPlan(split_seed, val_fraction, test_fraction, label_noise, train_samples)
        self.input_statistics: Statistics | None = None
        self.target_statistics: Statistics | None = None

    @abstractmethod
    def raw_data(self) -> RawData:
        """Load the set from disk, or generate it, without touching the global random state."""

    def load_splits(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        """The raw data, split, and standardised by the training split's statistics."""
        splits = self._plan.cut(self.raw_data(), self.num_classes)
        self.input_statistics = Statistics.of(splits.train.inputs, self.per_feature)
        if self.num_classes is None:
            self.target_statistics = Statistics.of(splits.train.targets, per_feature=True)
        numbers = self.target_statistics
        tensors = {}
        for name, (inputs, targets) in splits._asdict().items():
            answers = targets.astype(np.int64) if numbers is None else numbers.apply(targets[:, None])
            tensors[name] = torch.from_numpy(self.input_statistics.apply(inputs)), torch.from_numpy(answers)
        return tensors
