"""A penalty on low-entropy predictions."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from trainoff.errors import UserError
from trainoff.modules.regularizers.loss_hooks import ChangedLoss, mean_of_counted


class ConfidencePenalty(ChangedLoss):
    """Subtracts β times the entropy of the predictions from the loss, in training (Pereyra et al. 2017, section 3.2).

    Acts at every ``nn.CrossEntropyLoss`` of the module, whose first input are the logits (batch, classes, ...); a
    module without one is refused. Where a target is the loss's ``ignore_index`` the entropy does not count.

    Args:
        coefficient: β, from 0.

    Raises:
        UserError: For a negative coefficient.
    """

    name: ClassVar[str] = "confidence_penalty"

    def __init__(self, coefficient: float = 0.1) -> None:
        super().__init__()
        if coefficient < 0:
            raise UserError(f"a penalty's coefficient is at least 0, not {coefficient}", "coefficient")
        self.coefficient = coefficient

    def changed(self, loss: nn.Module, inputs: tuple[Tensor, ...], value: Tensor) -> Tensor:
        """J − βH."""
        log_probabilities = torch.log_softmax(inputs[0], dim=1)
        entropies = -(log_probabilities.exp() * log_probabilities).sum(dim=1)
        return value - self.coefficient * mean_of_counted(entropies, loss, inputs[1])
