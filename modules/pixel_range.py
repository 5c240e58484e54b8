"""The least and the greatest pixel of a dataset, as its batches have them."""

from __future__ import annotations

from typing import cast

import lightning as L
import torch
from torch import Tensor

from trainoff.errors import UserError
from trainoff.modules.regularizers.training_data import training_batches


def measured_pixel_range(trainer: L.Trainer, module: L.LightningModule) -> list[float]:
    """Both ends over the training split, and over all processes.

    Raises:
        UserError: Where there is no training split.
    """
    loader = training_batches(trainer, module)
    if loader is None:
        raise UserError("is not known without the training split; give it, or a DataModule", "pixel_range")
    with torch.random.fork_rng():  # a loader may draw its order
        batches = (trainer.strategy.batch_to_device(batch) for batch in loader)
        ends = torch.stack([torch.stack(torch.aminmax(batch[0])) for batch in batches])
    ends = cast(Tensor, module.all_gather(ends)).reshape(-1, 2)
    return [float(ends[:, 0].min()), float(ends[:, 1].max())]
