"""The training data, for what a regularizer computes apart from the training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import lightning as L
from lightning.pytorch.utilities.model_helpers import is_overridden


def training_batches(trainer: L.Trainer, module: L.LightningModule) -> Iterable[Any]:
    """A new loader where one can be had: the present one may be in use."""
    for source in (getattr(trainer, "datamodule", None), module):
        if source is not None and is_overridden("train_dataloader", source):
            return cast(Iterable[Any], source.train_dataloader())
    return cast(Iterable[Any], trainer.train_dataloader)
