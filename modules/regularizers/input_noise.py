"""Noise on the inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from trainoff.errors import UserError
from trainoff.modules.regularizers.batch_augmentation import BatchAugmentation


class InputNoise(BatchAugmentation):
    """Trains on x + N(0, σ²), which for small σ is a penalty on the gradient by the input (Bishop 1995).

    Args:
        sigma: σ, from 0, in the units of the inputs (trainoff's are standardised).

    Raises:
        UserError: For a negative number.
    """

    def __init__(self, sigma: float = 0.1) -> None:
        super().__init__()
        if sigma < 0:
            raise UserError(f"a standard deviation is at least 0, not {sigma}", "sigma")
        self.sigma = sigma

    def change(self, inputs: Tensor, targets: Tensor, classes: int | None) -> tuple[Tensor, Tensor]:
        """Add the noise."""
        generator = torch.Generator(inputs.device).manual_seed(int(self._random.integers(2**62)))
        noise = torch.randn(inputs.shape, generator=generator, dtype=inputs.dtype, device=inputs.device)
        return inputs + self.sigma * noise, targets
