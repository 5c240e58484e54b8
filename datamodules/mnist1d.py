"""MNIST-1D: digits as generated sequences of 40 numbers."""

from __future__ import annotations

import functools
import random
from typing import ClassVar, Literal

import numpy as np

from trainoff.datamodules.facts.entry import DataModuleEntry
from trainoff.datamodules.facts.generated_sets import MNIST1D as FACTS
from trainoff.datamodules.splits import RawData
from trainoff.datamodules.tensor_datamodule import TensorDataModule


class MNIST1D(TensorDataModule):
    """4,000 + 1,000 generated sequences of 40 numbers in 10 classes; inputs ``(40,)``.

    The shape is that of the source and of its own models: a net that wants channels or steps adds the axis.
    Validation takes ``val_fraction`` of the 4,000; the test split is the official one. The set is generated once a
    process, in about a second, with the published arguments (seed 42).

    Args:
        batch_size: See :class:`TensorDataModule`, as for all others.
        microbatches: Parts of each training batch.
        split_seed: The seed of the split; not of the generation, which is fixed.
        val_fraction: The share of the official training split that validates.
        label_noise: The share of training labels to replace.
        train_samples: Keep only so many training samples.
        replacement: Draw training samples with replacement.

    Source: Greydanus and Kobak 2024, Scaling Down Deep Learning with MNIST-1D; the package ``mnist1d``.
    """

    facts: ClassVar[DataModuleEntry] = FACTS

    def __init__(
        self,
        batch_size: int | Literal["full"] = 128,
        microbatches: int = 1,
        split_seed: int = 0,
        val_fraction: float = 0.2,
        label_noise: float = 0.0,
        train_samples: int | None = None,
        replacement: bool = False,
    ) -> None:
        super().__init__(
            batch_size, microbatches, split_seed, val_fraction, None, label_noise, train_samples, replacement
        )

    def raw_data(self) -> RawData:
        """The sequences as float64, and the digits."""
        return _generate()


@functools.lru_cache(maxsize=1)
def _generate() -> RawData:
    from mnist1d.data import make_dataset

    # make_dataset seeds the global generators of Python and NumPy
    states = random.getstate(), np.random.get_state()
    try:
        data = make_dataset()
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
    return RawData(data["x"], data["y"], data["x_test"], data["y_test"])
