"""Label smoothing of the cross-entropy in training."""

from __future__ import annotations

from typing import Any, ClassVar

import lightning as L
from torch import nn

from trainoff.errors import UserError
from trainoff.modules.regularizers.base import Phase, Regularizer


class LabelSmoothing(Regularizer):
    """Mixes each target with the uniform distribution: (1 − ε)y + ε/K (Szegedy et al. 2016, section 7).

    Sets ``label_smoothing`` of every ``nn.CrossEntropyLoss`` in the module during training batches only, so that
    the losses of validation and test stay comparable between recipes.

    Args:
        epsilon: The share given to the uniform distribution, in [0, 1).

    Raises:
        UserError: For a share outside [0, 1).
    """

    phase: ClassVar[Phase] = Phase.LOSS

    def __init__(self, epsilon: float = 0.1) -> None:
        super().__init__()
        if not 0 <= epsilon < 1:
            raise UserError(f"label smoothing lies in [0, 1), not {epsilon}", "epsilon")
        self.epsilon = epsilon
        self._losses: list[tuple[nn.CrossEntropyLoss, float]] = []

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find the losses.

        Raises:
            UserError: Where the module has no ``nn.CrossEntropyLoss``.
        """
        losses = [part for part in pl_module.modules() if isinstance(part, nn.CrossEntropyLoss)]
        self._losses = [(loss, loss.label_smoothing) for loss in losses]
        if not self._losses:
            raise UserError(
                f"{type(pl_module).__name__} has no nn.CrossEntropyLoss to smooth; keep its loss as a submodule",
                "label_smoothing",
            )

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Smooth."""
        for loss, _ in self._losses:
            loss.label_smoothing = self.epsilon

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Back to the loss as it was, which is what validation reads."""
        self._restore()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Back to the loss as it was, also from within a batch."""
        self._restore()

    def _restore(self) -> None:
        for loss, smoothing in self._losses:
            loss.label_smoothing = smoothing
