"""How a run tells somebody of its trials while they train: rows in a file, a write an epoch."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import IO, Protocol

import lightning as L
import msgspec

from trainoff.benchmarks.record import Curves, Record
from trainoff.benchmarks.trial import Trial


class Tracker(Protocol):
    """Whoever wants to know. Neither method raises or waits."""

    def begin(self, trial: Trial) -> str:
        """A trial is about to start; returns the file that its rows go to."""
        ...

    def end(self, record: Record) -> None:
        """A trial's record is on disk."""
        ...


class CurveSpool(L.Callback):
    """Adds each epoch's values to a file as a line of JSON, after the process id. Whatever fails, training goes on.

    Args:
        path: The file; one that is there is replaced.
        curves: What :class:`CurveMeter` fills; it comes before this callback.
    """

    def __init__(self, path: str, curves: Curves) -> None:
        self.path = Path(path)
        self.curves = curves
        self._file: IO[str] | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin the file, in the first process alone."""
        if trainer.is_global_zero:
            with contextlib.suppress(OSError):
                self._file = open(self.path, "w", encoding="utf-8")  # noqa: SIM115 (held open for the training)
                self._write({"pid": os.getpid()})

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add the last value of each curve, where it is of this epoch."""
        epoch = len(self.curves.train_loss)
        curves = msgspec.structs.asdict(self.curves)
        self._write({"epoch": epoch, **{name: values[-1] for name, values in curves.items() if len(values) == epoch}})

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Close the file."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _write(self, row: dict[str, float | int | None]) -> None:
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
        except (OSError, ValueError):  # a full disk must not end a training that only wanted to be watched
            self._file = None
