"""A penalty on low-entropy predictions."""

from __future__ import annotations

from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from trainoff.errors import UserError
from trainoff.modules.regularizers.base import Phase, Regularizer


class ConfidencePenalty(Regularizer):
    """Subtracts β times the entropy of the predictions from the loss, in training (Pereyra et al. 2017, section 3.2).

    Acts at every ``nn.CrossEntropyLoss`` of the module, whose first input are the logits (batch, classes, ...).

    Args:
        coefficient: β, from 0.

    Raises:
        UserError: For a negative coefficient.
    """

    phase: ClassVar[Phase] = Phase.LOSS

    def __init__(self, coefficient: float = 0.1) -> None:
        super().__init__()
        if coefficient < 0:
            raise UserError(f"a penalty's coefficient is at least 0, not {coefficient}", "coefficient")
        self.coefficient = coefficient
        self._hooks: list[RemovableHandle] = []
        self._is_training = False

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Attach to the losses.

        Raises:
            UserError: Where the module has no ``nn.CrossEntropyLoss``.
        """
        losses = [part for part in pl_module.modules() if isinstance(part, nn.CrossEntropyLoss)]
        if not losses:
            raise UserError(
                f"{type(pl_module).__name__} has no nn.CrossEntropyLoss to add to; keep its loss as a submodule",
                "confidence_penalty",
            )
        self._hooks = [loss.register_forward_hook(self._penalised) for loss in losses]

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """From here on the losses are the training's."""
        self._is_training = True

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """From here on they are not."""
        self._is_training = False

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let go of the losses."""
        self._let_go()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Let go of the losses."""
        self._let_go()

    def _let_go(self) -> None:
        self._is_training = False
        while self._hooks:
            self._hooks.pop().remove()

    def _penalised(self, loss: nn.Module, inputs: tuple[Tensor, ...], value: Tensor) -> Tensor:
        if not self._is_training:
            return value
        log_probabilities = torch.log_softmax(inputs[0], dim=1)
        entropy = -(log_probabilities.exp() * log_probabilities).sum(dim=1).mean()
        return value - self.coefficient * entropy
