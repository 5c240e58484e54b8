"""Ending the training when validation no longer improves."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping as LightningEarlyStopping

from trainoff.errors import UserError
from trainoff.modules.logged_names import find_name
from trainoff.modules.regularizers.base import Phase, Regularizer


class EarlyStopping(Regularizer, LightningEarlyStopping):  # type: ignore[misc]
    """Lightning's ``EarlyStopping``, with the validation loss as its default (Prechelt 1998).

    Args:
        monitor: Name of a logged value.
        patience: Validations without improvement that are let pass.
        min_delta: Least change that counts as an improvement.
        mode: ``min`` where less is better, else ``max``.

    ``monitor`` is found in either spelling, ``val/loss`` or ``val_loss``.

    Raises:
        UserError: For another mode, or a negative number.
    """

    phase: ClassVar[Phase] = Phase.STOPPING

    def __init__(
        self,
        monitor: str = "val/loss",
        patience: int = 3,
        min_delta: float = 0.0,
        mode: Literal["min", "max"] = "min",
    ) -> None:
        if mode not in ("min", "max"):
            raise UserError(f"the mode is 'min' or 'max', not '{mode}'", "mode")
        for name, value in (("patience", patience), ("min_delta", min_delta)):
            if value < 0:
                raise UserError(f"{name} is at least 0, not {value}", name)
        self._wanted = monitor
        LightningEarlyStopping.__init__(self, monitor=monitor, patience=patience, min_delta=min_delta, mode=mode)

    @property
    def state_key(self) -> str:
        """As Lightning's own: what is monitored, and how."""
        return self._generate_state_key(monitor=self._wanted, mode=self.mode)

    # Lightning's class calls the metric check in one of these two; both are repeated here so that they are
    # confined to the own module, as every hook of a recipe's callback is.
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check after validation, where the training epoch's end is not the place."""
        if not self._check_on_train_epoch_end:
            self._find_monitor(trainer)
        LightningEarlyStopping.on_validation_end(self, trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check at the end of a training epoch."""
        if self._check_on_train_epoch_end:  # else there may have been no validation yet
            self._find_monitor(trainer)
        LightningEarlyStopping.on_train_epoch_end(self, trainer, pl_module)

    def _find_monitor(self, trainer: L.Trainer) -> None:
        has_validated = trainer.state.fn == "fit" and not trainer.sanity_checking and not trainer.fast_dev_run  # type: ignore[attr-defined]
        if has_validated and self.monitor not in trainer.callback_metrics:
            self.monitor = find_name(self._wanted, trainer.callback_metrics, "early_stopping.monitor")

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> Any:
        """Choose between the two moments, as Lightning does."""
        return LightningEarlyStopping.setup(self, trainer, pl_module, stage)
