"""Checkpoints that are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from fsspec.implementations.local import LocalFileSystem
from lightning.fabric.utilities.cloud_io import get_filesystem
from lightning.pytorch.plugins.io import TorchCheckpointIO

from trainoff.atomic_files import replacing


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, to the disk, and moves it there: ``L.Trainer(plugins=[AtomicCheckpointIO()])``.

    Killed at any moment, it leaves the earlier checkpoint or the new one. Lightning's own writes into the system's
    temporary folder without waiting for the disk; where that is another file system, moving is copying, and a kill
    leaves half a file in the place of the good one. Nor does this one hold the whole file in memory first.

    Addresses that are no local paths (``s3://…``) are written as Lightning does.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Write it.

        Args:
            checkpoint: What ``torch.save`` takes.
            path: Its folder is made where it is missing.
            storage_options: As for Lightning's, nothing.

        Raises:
            OSError: Where the disk is full or the place not writable; what stood there is untouched.
            TypeError: For storage options.
        """
        filesystem = get_filesystem(path)
        if storage_options is not None or not isinstance(filesystem, LocalFileSystem):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        place = Path(filesystem._strip_protocol(str(path)))  # type: ignore[no-untyped-call]
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as file:
            torch.save(checkpoint, file)
