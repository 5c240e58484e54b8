"""Seconds of a forward pass for one sample."""

from __future__ import annotations

import statistics
import time
from typing import Any

import lightning as L
import torch
from torch import Tensor

from trainoff.benchmarks.meters.meter import Meter

_WARMUP_PASSES = 5
_MOST_PASSES = 50
_MOST_SECONDS = 0.2


class LatencyMeter(Meter):
    """Times forward passes of the first validation sample, alone in its batch, before the first validation step.

    The module is on its device then, and no clock of the training runs. Where the batch does not begin with a tensor
    of samples, or the module takes something else, nothing is measured.
    """

    kept = ("latency_seconds", "_is_done")

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
        self.latency_seconds = forward_seconds(pl_module, first_sample(batch))


def first_sample(batch: Any) -> Tensor | None:
    """The inputs of a batch's first sample, (1, ...), where the batch is inputs, or inputs and more."""
    inputs = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    return inputs[:1] if isinstance(inputs, Tensor) and inputs.ndim > 0 else None


def forward_seconds(module: L.LightningModule, sample: Tensor | None) -> float | None:
    """Median seconds of ``module(sample)`` in eval mode, the first passes left out; ``None`` where it does not work.

    The module's modes and the global random state are left as they were.
    """
    if sample is None:
        return None
    sample = sample.to(module.device)
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        # A foreign module's forward may draw random numbers: the training's are not to depend on this.
        with torch.no_grad(), torch.random.fork_rng(devices=[sample.device] if sample.is_cuda else []):
            return _median_seconds(module, sample)
    except Exception:  # what forward takes is the module's own affair
        return None
    finally:
        for part, mode in modes:
            part.training = mode


def _median_seconds(module: L.LightningModule, sample: Tensor) -> float:
    seconds: list[float] = []
    module(sample)  # a compiled net is compiled for this size now
    begin = time.perf_counter()
    while len(seconds) < _MOST_PASSES + _WARMUP_PASSES and time.perf_counter() - begin < _MOST_SECONDS:
        _synchronise(sample.device)
        start = time.perf_counter()
        module(sample)
        _synchronise(sample.device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[_WARMUP_PASSES:] or seconds)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
