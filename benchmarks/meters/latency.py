"""Seconds of a forward pass for one sample."""

from __future__ import annotations

import statistics
import time
from typing import Any

import lightning as L
import torch

_WARMUP_PASSES = 3
_MOST_PASSES = 30
_MOST_SECONDS = 0.2


class LatencyMeter(L.Callback):
    """Times forward passes of the first validation sample, alone in its batch, before the first validation step.

    The module is in eval mode then, on its device, and no clock of the training runs. Where the batch does not begin
    with a tensor of samples, or the module takes something else, nothing is measured.
    """

    def __init__(self) -> None:
        self.latency_seconds: float | None = None
        self._is_done = False

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Measure once."""
        if self._is_done or trainer.state.fn != "fit":
            return
        self._is_done = True
        inputs = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
        if isinstance(inputs, torch.Tensor) and inputs.ndim > 0:
            # A foreign module's forward may draw random numbers: the training's are not to depend on this.
            with torch.random.fork_rng(devices=[inputs.device] if inputs.is_cuda else []):
                self.latency_seconds = _median_seconds(pl_module, inputs[:1])


def _median_seconds(module: L.LightningModule, sample: torch.Tensor) -> float | None:
    seconds: list[float] = []
    begin = time.perf_counter()
    try:
        while len(seconds) < _MOST_PASSES + _WARMUP_PASSES and time.perf_counter() - begin < _MOST_SECONDS:
            _wait(sample)
            start = time.perf_counter()
            module(sample)
            _wait(sample)
            seconds.append(time.perf_counter() - start)
    except Exception:  # what forward takes is the module's own affair
        return None
    measured = seconds[_WARMUP_PASSES:]
    return statistics.median(measured or seconds)


def _wait(sample: torch.Tensor) -> None:
    if sample.is_cuda:
        torch.cuda.synchronize(sample.device)
    elif sample.device.type == "mps":
        torch.mps.synchronize()
