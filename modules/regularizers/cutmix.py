"""Samples with a box of another one."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from trainoff.modules.regularizers.batch_augmentation import PairMixing, mix_targets


class CutMix(PairMixing):
    """Replaces a box by that of another sample, and mixes the targets by its area (Yun et al. 2019, algorithm A1).

    The box takes 1 − λ of the area before it is cut at the border, λ ~ Beta(α, α), one box a batch. The dimensions of
    the box are those after batch and channels: (batch, channels, height, width), (batch, channels, length); an input
    of two dimensions has no channels.

    Args:
        alpha: α, above 0.
        num_classes: Where neither the DataModule nor the module's hyperparameters say it.

    Raises:
        UserError: For an α that is not positive.
    """

    name: ClassVar[str] = "cutmix"

    def __init__(self, alpha: float = 1.0, num_classes: int | None = None) -> None:
        super().__init__(alpha, num_classes)

    def change(self, inputs: Tensor, targets: Tensor, classes: int | None) -> tuple[Tensor, Tensor]:
        """Paste the box."""
        sizes = inputs.shape[2:] if inputs.ndim > 2 else inputs.shape[1:]
        side = (1 - float(self._random.beta(self.alpha, self.alpha))) ** (1 / len(sizes))
        box = []
        for size in sizes:
            centre, half = int(self._random.integers(size)), round(size * side) / 2
            box.append(slice(max(0, math.ceil(centre - half)), min(size, math.ceil(centre + half))))
        share = 1 - math.prod(part.stop - part.start for part in box) / math.prod(sizes)
        partners = torch.from_numpy(self._random.permutation(len(inputs))).to(inputs.device)
        pasted = torch.zeros(sizes, dtype=torch.bool, device=inputs.device)
        pasted[tuple(box)] = True
        mixed = torch.where(pasted, inputs[partners], inputs)
        return mixed, mix_targets(targets, targets[partners], share, self.num_classes or classes)
