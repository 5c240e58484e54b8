"""The base of the DataModules of images: pixels in memory, normalised and augmented on the device, batch by batch."""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainoff.datamodules.image_augmentation import ImageTransform, build_augmentations
from trainoff.datamodules.in_memory import InMemoryDataModule
from trainoff.datamodules.splits import Array, RawData, SplitPlan
from trainoff.datamodules.standardisation import Statistics
from trainoff.datamodules.tensor_batches import TensorBatches
from trainoff.errors import UserError

_EVALUATION_PIXELS = 2048 * 3 * 32 * 32  # in a batch for evaluation, whose float form takes 25 MB


class ImageDataModule(InMemoryDataModule):
    """A DataModule of images and their classes.

    A subclass sets ``facts`` and implements :meth:`raw_data`. The pixels stay in memory as they are, uint8, and are
    moved to the device once. Each batch is normalised there with the mean and the standard deviation of each
    channel over the training split (``input_statistics``); training batches are augmented before that, those of
    ``train_eval_dataloader`` are not. Batches are tuples of inputs, float32 ``(batch, channels, height, width)``, and
    targets, int64 ``(batch,)``. Splits, label noise and kept samples are those of :class:`TensorDataModule`.

    Args:
        batch_size: Samples in a global training batch, over all devices; ``"full"`` for the whole training split.
        microbatches: Parts in which each training batch is delivered.
        split_seed: The seed of the split, of the label noise, and of which training samples are kept.
        val_fraction: The share of the training samples that validates; None for the set's own validation split, or
            for 0.2 where it has none.
        test_fraction: The share that tests; None for the set's own test split, or for 0.2 where it has none.
        label_noise: The share of training labels to replace by another class.
        train_samples: Keep only so many training samples.
        replacement: Draw training samples with replacement.
        augmentation: What is done to training batches, in order: ``flip`` (left to right, with probability ``p``,
            0.5) and ``crop`` (at a random place after ``padding``, 4 pixels), such as
            ``["flip", {"name": "crop", "padding": 2}]``. The random numbers are those of :class:`ImageTransform`.

    Raises:
        UserError: Where a fraction is out of range, or an augmentation is unknown.
    """

    def __init__(
        self,
        batch_size: int | Literal["full"] = 128,
        microbatches: int = 1,
        split_seed: int = 0,
        val_fraction: float | None = None,
        test_fraction: float | None = None,
        label_noise: float = 0.0,
        train_samples: int | None = None,
        replacement: bool = False,
        augmentation: list[str | dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(batch_size, microbatches, replacement)
        self.task = "classification"  # also where the number of classes is not known yet
        self._plan = SplitPlan(split_seed, val_fraction, test_fraction, label_noise, train_samples)
        self._augmentations = build_augmentations(augmentation)
        self._channels: tuple[Statistics, ...] = ()
        self.class_names: tuple[str, ...] = ()  # where the files say them
        self.input_statistics: Statistics | None = None

    @abstractmethod
    def raw_data(self) -> RawData:
        """Load the images as uint8 ``(n, channels, height, width)``, with classes from 0, from disk.

        Where shape and classes depend on the data, it calls :meth:`describe`.
        """

    def describe(self, input_shape: tuple[int, ...], class_names: Sequence[str]) -> None:
        """Set what is known only when the data are: the shape of an image, and the classes by their numbers."""
        self.input_shape, self.class_names = input_shape, tuple(class_names)
        self.num_classes = self.output_size = len(self.class_names)

    def load_splits(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        """The pixels of each split, uint8, and the classes; the training split's statistics are kept."""
        raw = self.raw_data()
        if self.num_classes is None or self.num_classes < 2:
            raise UserError(f"{self.num_classes} is not a number of classes; it must be at least 2", self.facts.name)
        plan = dataclasses.replace(
            self._plan,
            val_fraction=_fraction(self._plan.val_fraction, raw.val_inputs),
            test_fraction=_fraction(self._plan.test_fraction, raw.test_inputs),
        )
        splits = plan.cut(raw, self.num_classes)
        pixels = splits.train.inputs
        self._channels = tuple(Statistics.of(pixels[:, channel], False) for channel in range(pixels.shape[1]))
        shape = () if len(self._channels) == 1 else (-1, 1, 1)
        self.input_statistics = Statistics(
            np.array([channel.mean for channel in self._channels]).reshape(shape),
            np.array([channel.std for channel in self._channels]).reshape(shape),
        )
        return {
            name: (_tensor(images), torch.from_numpy(labels.astype(np.int64)))
            for name, (images, labels) in splits._asdict().items()
        }

    def split(self, name: str) -> tuple[Tensor, Tensor]:
        """Normalised images, float32, and targets of one split, made anew at each call; the pixels stay."""
        images, targets = self.stored(name)
        normalised = torch.empty(images.shape, dtype=torch.float32)
        for place, statistics in enumerate(self._channels):
            normalised[:, place] = torch.from_numpy(statistics.apply(images[:, place].numpy()))
        return normalised, targets

    def batch_transform(self, training: bool) -> ImageTransform:
        """Normalise, and augment before that in training."""
        self.setup()
        assert self.input_statistics is not None  # setup() sets it
        mean, std = (torch.from_numpy(value) for value in self.input_statistics)
        return ImageTransform(mean, std, self._augmentations if training else ())

    def _evaluation(self, tensors: tuple[Tensor, Tensor]) -> TensorBatches:
        size = max(1, min(self.evaluation_batch, _EVALUATION_PIXELS // math.prod(tensors[0].shape[1:])))
        return self._batches(tensors, size, transform=self.batch_transform(False))


def _fraction(given: float | None, official: Array | None) -> float | None:
    return 0.2 if given is None and official is None else given


def _tensor(images: npt.NDArray[np.uint8]) -> Tensor:
    # files are read as read-only arrays, of which torch warns
    return torch.from_numpy(images if images.flags.writeable else images.copy())
