"""Mixed pairs of samples."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from trainoff.modules.regularizers.batch_augmentation import PairMixing, mix_targets


class Mixup(PairMixing):
    """Trains on λxᵢ + (1 − λ)xⱼ with targets mixed alike, λ ~ Beta(α, α) for each batch (Zhang et al. 2018, eq. 1).

    Class numbers become shares of classes, which ``nn.CrossEntropyLoss`` takes; targets of a regression are mixed as
    they are.

    Args:
        alpha: α, above 0.
        num_classes: Where neither the DataModule nor the module's hyperparameters say it.

    Raises:
        UserError: For an α that is not positive.
    """

    name: ClassVar[str] = "mixup"

    def __init__(self, alpha: float = 0.2, num_classes: int | None = None) -> None:
        super().__init__(alpha, num_classes)

    def change(self, inputs: Tensor, targets: Tensor, classes: int | None) -> tuple[Tensor, Tensor]:
        """Mix each sample with another one of the batch."""
        share = float(self._random.beta(self.alpha, self.alpha))
        partners = torch.from_numpy(self._random.permutation(len(inputs))).to(inputs.device)
        mixed = torch.lerp(inputs[partners], inputs, share)
        return mixed, mix_targets(targets, targets[partners], share, self.num_classes or classes)
