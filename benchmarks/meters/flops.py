"""Floating-point operations of one training step."""

from __future__ import annotations

import contextlib
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.data import extract_batch_size
from torch.utils.flop_counter import FlopCounterMode

from trainoff.benchmarks.meters.meter import Meter


class _NoModules(contextlib.nullcontext[None]):
    """In the place of the counter's module tracker, whose hooks on parameters forbid ``torch.autograd.grad``.

    That is what a gradient penalty, or anyone's module with one, calls; counts by module are not wanted here.
    """

    parents = frozenset({"Global"})


class FlopMeter(Meter):
    """Counts the operations of the first training batch, forward and backward, with torch's own counter.

    It watches the real step, so nothing runs twice; matrix products, convolutions and attention are counted.
    """

    kept = ("flops_per_sample",)

    def __init__(self) -> None:
        self.flops_per_sample: int | None = None
        self._counter: FlopCounterMode | None = None
        # A compiled net that is first called under the counter would stay uncompiled for good.
        self._eager: Any = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start counting."""
        if self.flops_per_sample is None:
            self._eager = torch.compiler.set_stance("force_eager")
            self._eager.__enter__()
            self._counter = FlopCounterMode(display=False)
            self._counter.mod_tracker = _NoModules()  # type: ignore[assignment]
            self._counter.__enter__()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop after the one batch."""
        if self._counter is not None:
            self._close()
            self.flops_per_sample = round(self._total / max(extract_batch_size(batch), 1))

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave the counter, which would otherwise stay on in a reused worker."""
        if self._counter is not None:
            self._close()

    def _close(self) -> None:
        assert self._counter is not None
        self._counter.__exit__(None, None, None)
        self._eager.__exit__(None, None, None)
        self._total = self._counter.get_total_flops()
        self._counter = None
