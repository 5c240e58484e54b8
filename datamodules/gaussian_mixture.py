"""A generated mixture of Gaussians, of which the best possible error is known."""

from __future__ import annotations

import math
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np

from trainoff.datamodules.facts.entry import DataModuleEntry
from trainoff.datamodules.facts.generated_sets import GAUSSIAN_MIXTURE
from trainoff.datamodules.random_numbers import normals
from trainoff.datamodules.splits import RawData
from trainoff.datamodules.tensor_datamodule import TensorDataModule
from trainoff.errors import UserError


class GaussianMixture(TensorDataModule):
    """K equally frequent classes, each N(μₖ, I), all means at the same distance from one another; inputs ``(d,)``.

    μₖ = (separation/√2) · eₖ. No classifier errs less than :attr:`bayes_error`. Inputs are then standardised by one
    mean and one standard deviation, which leaves it as it is.

    Args:
        samples: Samples over all classes and splits; as many of each class, so that a remainder is left out.
        classes: K, from 2.
        dimension: d, from K.
        separation: The distance between two means, in standard deviations.
        data_seed: The seed of the samples.
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

    facts: ClassVar[DataModuleEntry] = GAUSSIAN_MIXTURE

    def __init__(
        self,
        samples: int = 2000,
        classes: int = 2,
        dimension: int = 10,
        separation: float = 2.0,
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
            raise UserError(f"{samples} samples make no {classes} classes; at least 2, of a sample each", "classes")
        if dimension < classes:
            raise UserError(f"{classes} means need {classes} dimensions or more, not {dimension}", "dimension")
        if separation < 0:
            raise UserError(f"a distance is at least 0, not {separation}", "separation")
        self.samples, self.dimension, self.separation, self.data_seed = samples, dimension, separation, data_seed
        self.num_classes = self.output_size = classes
        self.input_shape = (dimension,)

    def raw_data(self) -> RawData:
        """The samples, one class after the other."""
        each = self.samples // self.output_size
        labels = np.repeat(np.arange(self.output_size), each)
        inputs = normals((len(labels), self.dimension), self.data_seed, "gaussian_mixture")
        inputs[np.arange(len(labels)), labels] += self.separation / math.sqrt(2)
        return RawData(inputs, labels)

    @property
    def bayes_error(self) -> float:
        """The least possible share of errors, on clean labels.

        For two classes Φ(−separation/2). For K it is 1 − ∫ φ(t − m) Φ(t)^(K−1) dt with m = separation/√2: the
        likeliest class is that of the largest of the first K numbers; by quadrature, to within
        :attr:`bayes_error_uncertainty`.
        """
        return self._bayes[0]

    @property
    def bayes_error_uncertainty(self) -> float:
        """The quadrature's own bound of its absolute error; 0 for two classes."""
        return self._bayes[1]

    @cached_property
    def _bayes(self) -> tuple[float, float]:
        classes, mean = self.output_size, self.separation / math.sqrt(2)
        if classes == 2:
            return _normal_cdf(-self.separation / 2), 0.0
        from scipy.integrate import quad

        def density(t: float) -> float:
            return math.exp(-((t - mean) ** 2) / 2) / math.sqrt(2 * math.pi) * _normal_cdf(t) ** (classes - 1)

        # beyond 12 standard deviations less than 1e-32 is left
        right, uncertainty = quad(density, mean - 12, mean + 12, epsabs=1e-12, epsrel=0, limit=200)
        return 1 - right, uncertainty


def _normal_cdf(t: float) -> float:
    return math.erfc(-t / math.sqrt(2)) / 2
