"""Beginning a trial up to its first batch: most of a recipe's mistakes show there, before hours went into others."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
from dataclasses import replace
from typing import Any

import lightning as L
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator
from torch.utils.data import DataLoader

from trainoff.benchmarks.data_digest import fixed_randomness
from trainoff.benchmarks.engines.trainer import begin
from trainoff.benchmarks.trial import Trial
from trainoff.errors import UserError


class _Begun(Exception):
    """All is ready for the first batch."""


class _End(L.Callback):
    """Ends a training after every ``on_train_start``, before a batch is fetched."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        raise _Begun


def rehearse(trial: Trial, datamodule: L.LightningDataModule) -> None:
    """Begin a trial as the engine does, on the CPU, and end it before its first batch.

    Nothing is written or printed, and the random state is left as it was.

    Args:
        trial: Of any setting of the task.
        datamodule: The task's, set up for ``fit``; it is left as it is, for the next trial.

    Raises:
        UserError: For a mistake that the user can mend. Anything else that is raised is left to the trial, whose
            record tells it.
    """
    try:
        with fixed_randomness(), contextlib.redirect_stdout(io.StringIO()):
            begin(_for_the_cpu(trial), _sharing_data(datamodule), _End())
    except UserError:
        raise
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # which Lightning turns into the end of the process
            raise error.__context__ from None
    except Exception:
        return


def _for_the_cpu(trial: Trial) -> Trial:
    """The trial without what only its own device can say; this process leaves accelerators to the workers."""
    elsewhere = CUDAAccelerator.is_available() or MPSAccelerator.is_available()
    left_out = ("precision",) if elsewhere else ()
    return replace(trial, setting={key: value for key, value in trial.setting.items() if key not in left_out})


def _sharing_data(datamodule: L.LightningDataModule) -> L.LightningDataModule:
    """A copy on the same data, whose batch size may be set; it neither loads them again nor lets go of them."""
    copied: Any = copy.copy(datamodule)
    copied.save_hyperparameters(dict(datamodule.hparams))
    copied.prepare_data = copied.setup = copied.teardown = _nothing
    copied.train_dataloader = functools.partial(_train_loader, copied)
    return copied  # type: ignore[no-any-return]


def _nothing(stage: str | None = None) -> None:
    """In place of a hook that has been called."""


def _train_loader(datamodule: L.LightningDataModule) -> Any:
    return without_workers(type(datamodule).train_dataloader(datamodule))


def without_workers(loader: Any) -> Any:
    """The loader; where it is torch's, it starts no processes."""
    if isinstance(loader, DataLoader):
        loader.num_workers, loader.timeout = 0, 0
    return loader
