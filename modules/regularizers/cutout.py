"""Samples with a box left blank."""

from __future__ import annotations

import torch
from torch import Tensor

from trainoff.errors import UserError
from trainoff.modules.regularizers.batch_augmentation import BatchAugmentation


class Cutout(BatchAugmentation):
    """Sets a box of each sample to zero, which is the mean of standardised inputs (DeVries & Taylor 2017).

    The box's centre is anywhere in the sample, so that it may be cut at the border; its dimensions are those after
    batch and channels, as :class:`~trainoff.modules.regularizers.cutmix.CutMix` says.

    Args:
        size: Share of each side, in (0, 1).

    Raises:
        UserError: For a share outside (0, 1).
    """

    def __init__(self, size: float = 0.5) -> None:
        super().__init__()
        if not 0 < size < 1:
            raise UserError(f"the size is a share of each side in (0, 1), not {size}", "size")
        self.size = size

    def change(self, inputs: Tensor, targets: Tensor, classes: int | None) -> tuple[Tensor, Tensor]:
        """Blank a box in each sample."""
        first = 2 if inputs.ndim > 2 else 1
        inside = torch.ones(1, dtype=torch.bool, device=inputs.device)
        for dimension in range(first, inputs.ndim):
            size = inputs.shape[dimension]
            centres = torch.from_numpy(self._random.integers(size, size=len(inputs))).to(inputs.device)
            half = max(1, round(size * self.size)) / 2
            places = torch.arange(size, device=inputs.device)
            near = (places >= centres[:, None] - half) & (places < centres[:, None] + half)
            shape = [len(inputs), *[1] * (inputs.ndim - 1)]
            shape[dimension] = size
            inside = inside & near.view(shape)
        return inputs.masked_fill(inside, 0), targets
