"""Checkpoints within a trial, by which a killed one goes on where it was."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Checkpoint

from trainoff.benchmarks.checkpoint_interval import CheckpointPlace
from trainoff.benchmarks.environment import package_versions


class TrialCheckpoints(Checkpoint):
    """Saves the training at the end of every so many epochs, or when so many minutes have gone by.

    By the clock it saves within an epoch where the loaders can go on there (they have ``state_dict``, as those of
    trainoff's DataModules), else at the epoch's end. What is drawn after it is what an uninterrupted training draws.

    Args:
        place: Where, and how often.
    """

    def __init__(self, place: CheckpointPlace) -> None:
        self.place = place
        self.resumptions = 0
        self.earlier_seconds = 0.0  # of the processes whose checkpoints were gone on from
        self._began = self._last = time.monotonic()
        self._is_within_epoch = False
        self._random_states: dict[str, Any] | None = None  # of the checkpoint that is gone on from

    @property
    def to_resume_from(self) -> Path | None:
        """The checkpoint, where there is one, and this process has the versions of packages that it was written by."""
        path = self.place.path
        if not path.is_file():
            return None
        try:
            saved = torch.load(path, map_location="meta", weights_only=True, mmap=True)
            written_by = saved["callbacks"][self.state_key]["packages"]
        except Exception:  # whatever a file of another version or another program holds
            return None
        return path if written_by == package_versions() else None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Set the generators to what they were; the clock begins now."""
        self._last = time.monotonic()
        if self._random_states is not None:
            _set_random_states(self._random_states)
            self._random_states = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save, where it is time and the epoch can be gone on with."""
        is_step = trainer.fit_loop.epoch_loop._should_accumulate() is False
        if is_step and not trainer.is_last_batch and self._is_time(trainer) and _can_go_on(trainer):
            self._save(trainer, is_within_epoch=True)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save, where it is time."""
        epochs = self.place.every.epochs
        if (trainer.current_epoch + 1) % epochs == 0 if epochs is not None else self._is_time(trainer):
            self._save(trainer, is_within_epoch=False)

    def state_dict(self) -> dict[str, Any]:
        """The time that went by, and the generators' states where an epoch does not set them anew."""
        return {
            "packages": package_versions(),
            "resumptions": self.resumptions,
            "seconds": self.earlier_seconds + time.monotonic() - self._began,
            "random_states": _random_states() if self._is_within_epoch else None,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember them for the start of training."""
        self.resumptions = state_dict["resumptions"] + 1
        self.earlier_seconds = state_dict["seconds"]
        self._random_states = state_dict["random_states"]

    def _is_time(self, trainer: L.Trainer) -> bool:
        minutes = self.place.every.minutes
        if minutes is None:
            return False
        # One process' clock decides for all: saving is done by all together.
        return bool(trainer.strategy.broadcast(time.monotonic() - self._last >= 60 * minutes))

    def _save(self, trainer: L.Trainer, is_within_epoch: bool) -> None:
        self._is_within_epoch = is_within_epoch
        trainer.save_checkpoint(self.place.path)
        self._last = time.monotonic()


def _can_go_on(trainer: L.Trainer) -> bool:
    loaders = trainer.fit_loop._combined_loader
    return loaders is not None and all(hasattr(loader, "state_dict") for loader in loaders.flattened)


def _random_states() -> dict[str, Any]:
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss),
        "python": random.getstate(),
    }


def _set_random_states(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    random.setstate(states["python"])
