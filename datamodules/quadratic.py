"""A quadratic objective of a given condition number, as a linear regression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from trainoff.datamodules.facts.entry import DataModuleEntry
from trainoff.datamodules.facts.generated_sets import QUADRATIC
from trainoff.datamodules.in_memory import InMemoryDataModule
from trainoff.datamodules.random_numbers import Numbers, normals
from trainoff.errors import UserError


class Quadratic(InMemoryDataModule):
    """Least squares whose mean squared error has the Hessian's eigenvalues from L = 2 down to μ = 2/κ.

    For a linear net w·x + b (``linear``) the mean squared error is a quadratic in (w, b) with minimum 0 at
    :attr:`solution`, b = 0. Its Hessian has the eigenvalues 2κ^(−i/(d−1)), i = 0 … d−1, and 2 for b: full-batch
    gradient descent with rate α shrinks the error along eigenvalue h by |1 − αh| a step, at best by (κ−1)/(κ+1),
    with α = 2/(L+μ) = κ/(κ+1).

    The design is X = C Λ^½ Q with C the d first cosines over the n samples (orthogonal, mean 0), Λ the eigenvalues
    over 2 and Q a random reflection; y = Xw. It is an objective, not a sample of anything: validation and test are the
    training samples. They are float32, so that κ above 1e6 is not to be had.

    Args:
        condition: κ, from 1.
        dimension: d, from 1.
        samples: n, above d.
        data_seed: The seed of the reflection and of the solution.
        batch_size: Samples in a global training batch; ``"full"`` for gradient descent.
        microbatches: Parts of each training batch.
        replacement: Draw training samples with replacement.

    Raises:
        UserError: For numbers out of range.
    """

    facts: ClassVar[DataModuleEntry] = QUADRATIC

    def __init__(
        self,
        condition: float = 100.0,
        dimension: int = 20,
        samples: int = 100,
        data_seed: int = 0,
        batch_size: int | Literal["full"] = "full",
        microbatches: int = 1,
        replacement: bool = False,
    ) -> None:
        super().__init__(batch_size, microbatches, replacement)
        if not 1 <= condition <= 1e6:
            raise UserError(f"a condition number lies from 1 to 1e6 here, not at {condition}", "condition")
        if not 1 <= dimension < samples:
            raise UserError(f"{dimension} is not from 1 to {samples - 1}, below the number of samples", "dimension")
        self.condition, self.dimension, self.samples, self.data_seed = condition, dimension, samples, data_seed
        self.input_shape = (dimension,)

    @property
    def eigenvalues(self) -> Numbers:
        """Of the Hessian in w, from the largest, 2, to the smallest, 2/κ; of shape ``(d,)``."""
        exponents = -np.arange(self.dimension) / max(self.dimension - 1, 1)
        return 2 * np.power(float(self.condition), exponents)

    @property
    def solution(self) -> Numbers:
        """The w of the minimum, of shape ``(d,)``."""
        return normals((self.dimension,), self.data_seed, "quadratic's solution")

    def load_splits(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        """The design and its targets, the same for every split."""
        places = (np.arange(self.samples)[:, None] + 0.5) * np.arange(1, self.dimension + 1)
        cosines = np.sqrt(2) * np.cos(np.pi * places / self.samples)  # CᵀC = nI
        normal = normals((self.dimension,), self.data_seed, "quadratic's reflection")
        reflection = np.eye(self.dimension) - 2 * np.outer(normal, normal) / (normal @ normal)
        design = cosines * np.sqrt(self.eigenvalues / 2) @ reflection
        inputs = torch.from_numpy(design.astype(np.float32))
        targets = torch.from_numpy((design @ self.solution).astype(np.float32))[:, None]
        return dict.fromkeys(("train", "val", "test"), (inputs, targets))
