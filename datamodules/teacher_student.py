"""A generated regression: a net's outputs, for another net to learn."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np

from trainoff.datamodules.facts.entry import DataModuleEntry
from trainoff.datamodules.facts.generated_sets import TEACHER_STUDENT
from trainoff.datamodules.planar_points import check_noise
from trainoff.datamodules.random_numbers import Numbers, normals, rounded
from trainoff.datamodules.splits import RawData
from trainoff.datamodules.tensor_datamodule import TensorDataModule
from trainoff.errors import UserError


class TeacherStudent(TensorDataModule):
    """The outputs of a random net of one hidden layer, the teacher, at normal inputs ``(d,)``; regression.

    y = (1/√m) Σⱼ aⱼ σ(wⱼ·x/√d) + noise, with x, w and a from N(0, 1), σ the ReLU, m hidden units. Targets are
    standardised afterwards: the noise alone then leaves a mean squared error of :attr:`least_error`.

    Args:
        samples: Samples over all splits.
        dimension: d.
        teacher_width: m.
        noise: The standard deviation of the noise on the targets.
        data_seed: The seed of the teacher, of the inputs and of the noise.
        batch_size: See :class:`TensorDataModule`, as for all others.
        microbatches: Parts of each training batch.
        split_seed: The seed of the split.
        val_fraction: The share that validates.
        test_fraction: The share that tests.
        train_samples: Keep only so many training samples.
        replacement: Draw training samples with replacement.

    Raises:
        UserError: For numbers out of range.

    Source: Saad and Solla 1995, On-line learning in soft committee machines, Physical Review E 52 (there with erf in
    place of the ReLU).
    """

    facts: ClassVar[DataModuleEntry] = TEACHER_STUDENT

    def __init__(
        self,
        samples: int = 2000,
        dimension: int = 20,
        teacher_width: int = 8,
        noise: float = 0.0,
        data_seed: int = 0,
        batch_size: int | Literal["full"] = 128,
        microbatches: int = 1,
        split_seed: int = 0,
        val_fraction: float = 0.2,
        test_fraction: float | None = 0.2,
        train_samples: int | None = None,
        replacement: bool = False,
    ) -> None:
        super().__init__(
            batch_size, microbatches, split_seed, val_fraction, test_fraction, 0.0, train_samples, replacement
        )
        for name, value in (("samples", samples), ("dimension", dimension), ("teacher_width", teacher_width)):
            if value < 1:
                raise UserError(f"{value} is not a number from 1", name)
        self.samples, self.dimension, self.teacher_width = samples, dimension, teacher_width
        self.noise, self.data_seed = check_noise(noise), data_seed
        self.input_shape = (dimension,)

    def teacher(self) -> tuple[Numbers, Numbers]:
        """The teacher's weights: w of shape ``(m, d)``, a of shape ``(m,)``."""
        hidden = normals((self.teacher_width, self.dimension), self.data_seed, "teacher's hidden layer")
        return hidden, normals((self.teacher_width,), self.data_seed, "teacher's output")

    def raw_data(self) -> RawData:
        """Inputs and the teacher's noisy outputs, before they are standardised."""
        inputs = normals((self.samples, self.dimension), self.data_seed, "teacher's inputs")
        hidden, output = self.teacher()
        activations = np.maximum(inputs @ hidden.T / math.sqrt(self.dimension), 0)
        targets = activations @ output / math.sqrt(self.teacher_width)
        targets += self.noise * normals((self.samples,), self.data_seed, "teacher's noise")
        return RawData(inputs, rounded(targets))

    @property
    def least_error(self) -> float:
        """The expected mean squared error of the teacher itself, in the standardised unit: (noise/std)²."""
        self.setup()
        assert self.target_statistics is not None
        return float((self.noise / self.target_statistics.std[0]) ** 2)
