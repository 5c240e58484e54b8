"""Bytes of what a training keeps: its optimizer's state, its checkpoint."""

from __future__ import annotations

import io
from typing import IO, Any, cast

import lightning as L
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from trainoff.benchmarks.quiet import quiet


def tensor_bytes(state: Any) -> int:
    """Bytes of all tensors in nested mappings and sequences; of a tensor that is sharded over ranks, those of all."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, dict):
        return sum(tensor_bytes(value) for value in state.values())
    if isinstance(state, (list, tuple)):
        return sum(tensor_bytes(value) for value in state)
    return 0


class _ByteCount(io.RawIOBase):
    """A file that keeps nothing but its size."""

    size = 0

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        length = memoryview(content).nbytes
        self.size += length
        return length


class _CountingIO(TorchCheckpointIO):
    """Saves a checkpoint to nowhere: only its size is wanted, and a hundred trials would write a hundred files."""

    size = 0

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        file = _ByteCount()
        torch.save(checkpoint, cast(IO[bytes], file))
        self.size = file.size


def checkpoint_bytes(trainer: L.Trainer) -> int:
    """Bytes of a full checkpoint of the trainer's present state; all ranks have to ask. 0 on others than rank 0."""
    trainer.strategy.checkpoint_io = counting = _CountingIO()
    with quiet():
        trainer.save_checkpoint("counted.ckpt")
    return counting.size
