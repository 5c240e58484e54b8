"""One generator for each use of randomness, so that a recipe changes only what it means to change."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import lightning as L
import numpy as np
import torch

from trainoff.benchmarks.meters.meter import Meter
from trainoff.seeds import derive_seed


class DerivedGenerators(Meter):
    """Sets the global generators at each epoch from (seed, use, epoch).

    A torch DataLoader draws its order from the global generator when an epoch's first batch is fetched; dropout and
    augmentation draw from it during the steps. Each gets its own seed, so that a recipe which draws more numbers
    (dropout) sees the same order of samples as one which draws none. As a function of the epoch it also makes a
    resumed run draw what an uninterrupted one would.

    Args:
        seed: The trial's.
    """

    kept = ("initial_state_digest",)

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.initial_state_digest = ""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the digest of the initial state: equal for every recipe that does not change it."""
        if not self.initial_state_digest:  # a resumed training knows it already
            self.initial_state_digest = state_digest(pl_module)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """For the order of samples."""
        seed_everything(derive_seed(self.seed, "order", trainer.current_epoch))

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """For what is drawn during the steps, once the first batch has been fetched."""
        if batch_idx == 0:
            seed_everything(derive_seed(self.seed, "noise", trainer.current_epoch))


def seed_everything(seed: int) -> None:
    """Seed torch (all devices), numpy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def state_digest(module: torch.nn.Module) -> str:
    """SHA-256 over the names and bytes of a module's state."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
