"""Generated points of the plane: two moons, spirals."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from trainoff.datamodules.facts.entry import DataModuleEntry
from trainoff.datamodules.facts.generated_sets import SPIRALS, TWO_MOONS
from trainoff.datamodules.random_numbers import normals, rounded
from trainoff.datamodules.splits import RawData
from trainoff.datamodules.tensor_datamodule import TensorDataModule
from trainoff.errors import UserError


class TwoMoons(TensorDataModule):
    """Points of two interleaved half circles of radius 1, with normal noise; inputs ``(2,)``, 2 classes.

    Class 0: (cos t, sin t); class 1: (1 − cos t, 1/2 − sin t); t evenly spaced from 0 to π. These are the points of
    scikit-learn's ``make_moons``; the noise has a stream of its own.

    Args:
        samples: Points over both classes and all splits, an even number.
        noise: The standard deviation of the noise, before the standardisation.
        data_seed: The seed of the noise.
        batch_size: See :class:`TensorDataModule`, as for all others.
        microbatches: Parts of each training batch.
        split_seed: The seed of the split.
        val_fraction: The share that validates.
        test_fraction: The share that tests.
        label_noise: The share of training labels to replace.
        train_samples: Keep only so many training samples.
        replacement: Draw training samples with replacement.

    Raises:
        UserError: For numbers out of range.
    """

    facts: ClassVar[DataModuleEntry] = TWO_MOONS

    def __init__(
        self,
        samples: int = 1000,
        noise: float = 0.1,
        data_seed: int = 0,
        batch_size: int | Literal["full"] = 128,
        microbatches: int = 1,
        split_seed: int = 0,
        val_fraction: float = 0.2,
        test_fraction: float | None = 0.2,
        label_noise: float = 0.0,
        train_samples: int | None = None,
        replacement: bool = False,
    ) -> None:
        super().__init__(
            batch_size, microbatches, split_seed, val_fraction, test_fraction, label_noise, train_samples, replacement
        )
        self.samples, self.noise, self.data_seed = samples, check_noise(noise), data_seed
        if samples < 2 or samples % 2:
            raise UserError(f"{samples} is not an even number of points", "samples")

    def raw_data(self) -> RawData:
        """The points, one class after the other."""
        half = self.samples // 2
        t = np.linspace(0, np.pi, half)
        upper, lower = np.stack([np.cos(t), np.sin(t)], 1), np.stack([1 - np.cos(t), 0.5 - np.sin(t)], 1)
        points = np.concatenate([upper, lower])
        points += self.noise * normals(points.shape, self.data_seed, "two_moons")
        return RawData(rounded(points), np.repeat(np.arange(2), half))


class Spirals(TensorDataModule):
    """Points of spirals that wind around the origin, one a class, with normal noise; inputs ``(2,)``.

    Point i of n of class k of K: radius r = (i + 1/2)/n, angle 2π(turns · r + k/K).

    Args:
        samples: Points over all classes and splits; as many of each class, so that a remainder is left out.
        classes: K, from 2.
        turns: How often each spiral winds around the origin.
        noise: The standard deviation of the noise, before the standardisation.
        data_seed: The seed of the noise.
        batch_size: See :class:`TensorDataModule`, as for all others.
        microbatches: Parts of each training batch.
        split_seed: The seed of the split.
        val_fraction: The share that validates.
        test_fraction: The share that tests.
        label_noise: The share of training labels to replace.
        train_samples: Keep only so many training samples.
        replacement: Draw training samples with replacement.

    Raises:
        UserError: For numbers out of range.

    Source: Lang and Witbrock 1988, Learning to tell two spirals apart.
    """

    facts: ClassVar[DataModuleEntry] = SPIRALS

    def __init__(
        self,
        samples: int = 1000,
        classes: int = 2,
        turns: float = 1.5,
        noise: float = 0.02,
        data_seed: int = 0,
        batch_size: int | Literal["full"] = 128,
        microbatches: int = 1,
        split_seed: int = 0,
        val_fraction: float = 0.2,
        test_fraction: float | None = 0.2,
        label_noise: float = 0.0,
        train_samples: int | None = None,
        replacement: bool = False,
    ) -> None:
        super().__init__(
            batch_size, microbatches, split_seed, val_fraction, test_fraction, label_noise, train_samples, replacement
        )
        if classes < 2 or samples < classes:
            raise UserError(f"{samples} points make no {classes} spirals; at least 2, of a point each", "classes")
        self.samples, self.turns, self.noise, self.data_seed = samples, turns, check_noise(noise), data_seed
        self.num_classes = self.output_size = classes

    def raw_data(self) -> RawData:
        """The points, one class after the other."""
        classes = self.output_size
        each = self.samples // classes
        radius = np.tile((np.arange(each) + 0.5) / each, classes)
        labels = np.repeat(np.arange(classes), each)
        angle = 2 * np.pi * (self.turns * radius + labels / classes)
        points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
        points += self.noise * normals(points.shape, self.data_seed, "spirals")
        return RawData(rounded(points), labels)


def check_noise(noise: float) -> float:
    """The same number.

    Raises:
        UserError: Where it is below 0.
    """
    if noise < 0:
        raise UserError(f"a standard deviation is at least 0, not {noise}", "noise")
    return noise
