"""Seconds of training: without evaluation, and with the devices synchronised where it counts."""

from __future__ import annotations

import statistics
import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.data import extract_batch_size

from trainoff.benchmarks.meters.meter import Meter

WARMUP_STEPS = 3


class TimeMeter(Meter):
    """Measures training time, step times and throughput, and ends the training at a budget of seconds.

    The clock runs from the first batch of an epoch to its last, and stands while validation runs. Accelerators are
    synchronised when the clock starts and stops, not at each step. The very first batch warms up and is watched by
    the counter of operations: it counts as a median step, where that is less.

    Args:
        seconds: Budget of training seconds.
    """

    kept = ("_seconds", "step_seconds", "_counted_samples", "_steps", "_first_batch")

    def __init__(self, seconds: float | None = None) -> None:
        self.budget = seconds
        self._seconds = 0.0
        self.step_seconds: list[float] = []
        self._running_since: float | None = None
        self._last_step_end: float | None = None
        self._counted_samples = 0
        self._steps = 0
        self._first_batch: float | None = None

    def elapsed(self) -> float:
        """Training seconds so far."""
        running = 0.0 if self._running_since is None else time.perf_counter() - self._running_since
        first = self._first_batch or 0.0
        if self.step_seconds:
            first = min(first, statistics.median(self.step_seconds))
        return first + self._seconds + running

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock where a resumed training goes on within an epoch: Lightning does not begin it again."""
        if trainer.fit_loop.restarted_mid_epoch:
            self._start(trainer)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._start(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the samples; at the end of an optimizer step note its time."""
        if self._first_batch is None:
            self._stop(trainer)
            self._first_batch, self._seconds = self._seconds, 0.0
            self._start(trainer)
        self._counted_samples += extract_batch_size(batch)
        if trainer.global_step == self._steps:
            return  # within an accumulation
        self._steps = trainer.global_step
        now = time.perf_counter()
        if self._steps <= WARMUP_STEPS:
            self._counted_samples = 0
        elif self._last_step_end is not None:
            self.step_seconds.append(now - self._last_step_end)
        self._last_step_end = now
        if self.budget is not None and self.elapsed() >= self.budget:
            trainer.should_stop = True

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock."""
        self._stop(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go on, where the epoch does; validation at its end leaves nothing but what is not training."""
        if trainer.state.fn == "fit" and not trainer.is_last_batch:
            self._start(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock."""
        self._stop(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Stop the clock."""
        self._stop(trainer)

    def state_dict(self) -> dict[str, Any]:
        """What has been measured so far, the running clock included."""
        running = 0.0 if self._running_since is None else time.perf_counter() - self._running_since
        return {**super().state_dict(), "_seconds": self._seconds + running}

    def throughput(self) -> float | None:
        """Samples a second over the steps after the warm-up; ``None`` where there were none."""
        seconds = sum(self.step_seconds)
        return self._counted_samples / seconds if seconds and self._counted_samples else None

    def quantile(self, q: float) -> float | None:
        """Quantile of the step times after the warm-up, in seconds."""
        if not self.step_seconds:
            return None
        if len(self.step_seconds) == 1:
            return self.step_seconds[0]
        return statistics.quantiles(self.step_seconds, n=100, method="inclusive")[round(100 * q) - 1]

    def _start(self, trainer: L.Trainer) -> None:
        _synchronise(trainer)
        self._running_since = time.perf_counter()
        self._last_step_end = self._running_since

    def _stop(self, trainer: L.Trainer) -> None:
        if self._running_since is None:
            return
        _synchronise(trainer)
        self._seconds += time.perf_counter() - self._running_since
        self._running_since = None


def _synchronise(trainer: L.Trainer) -> None:
    device = trainer.strategy.root_device
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
