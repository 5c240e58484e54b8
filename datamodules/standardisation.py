"""Mean 0 and standard deviation 1, by statistics of the training split.

Sums are exact (integers) or exactly rounded (``math.fsum``), so that the data and their digest are equal on every
machine: NumPy's own sums depend on the processor's vector width.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from trainoff.datamodules.splits import Array


class Statistics(NamedTuple):
    """The mean and the (population) standard deviation: of shape ``(features,)``, or ``()`` where they are global."""

    mean: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]

    @classmethod
    def of(cls, values: Array, per_feature: bool) -> Statistics:
        """The statistics of an array of shape ``(n, ...)``; a constant has standard deviation 1, not 0.

        Args:
            values: The training samples. Global statistics of uint8 are counted, which is faster.
            per_feature: One mean for each column of ``(n, features)``, in place of one for all numbers.
        """
        if per_feature:
            columns = [_mean_and_std(column) for column in values.reshape(len(values), -1).astype(np.float64).T]
            mean, std = np.array(columns).T
            return cls(mean, std)
        if values.dtype == np.uint8:
            # torch's bincount, as NumPy's makes an int64 copy first
            counts = torch.bincount(torch.from_numpy(values.ravel()), minlength=256).tolist()
            total = sum(counts)
            first = sum(count * value for value, count in enumerate(counts))
            second = sum(count * value**2 for value, count in enumerate(counts))
            return cls(np.array(first / total), np.array(math.sqrt((total * second - first**2) / total**2) or 1.0))
        mean_and_std = _mean_and_std(values.ravel().astype(np.float64))
        return cls(np.array(mean_and_std[0]), np.array(mean_and_std[1]))

    def apply(self, values: Array) -> npt.NDArray[np.float32]:
        """``(values - mean) / std`` as float32, of the same shape."""
        if values.dtype == np.uint8 and self.mean.ndim == 0:
            # 256 different results: looked up rather than computed for each of 50 million pixels
            table: npt.NDArray[np.float32] = ((np.arange(256) - self.mean) / self.std).astype(np.float32)
            return table[values]
        return ((values - self.mean) / self.std).astype(np.float32)


def _mean_and_std(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((values - mean) ** 2) / len(values)) or 1.0
