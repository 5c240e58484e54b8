"""Beginning a trial up to its first batch: most of a recipe's mistakes show there, before hours went into others."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import lightning as L
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator
from lightning.pytorch.callbacks import EarlyStopping
from torch.utils.data import DataLoader

from trainoff.benchmarks.data_digest import fixed_randomness
from trainoff.benchmarks.engines.trainer import begin
from trainoff.benchmarks.trial import Trial
from trainoff.errors import UserError
from trainoff.modules.gan import GAN, LOGGED_NAMES
from trainoff.modules.logged_names import find_name
from trainoff.modules.recipe import Recipe
from trainoff.modules.sharding import check_shardable
from trainoff.modules.strategy_requirements import check_requirements, mesh_of, processes_of, strategy_name
from trainoff.modules.supervised_module import SupervisedModule
from trainoff.registry import arguments_of


class _Begun(Exception):
    """All is ready for the first batch."""


class _End(L.Callback):
    """Ends a training after every ``on_train_start``, before a batch is fetched.

    Args:
        recipe: With its strategy, which one process does not have.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if strategy_name(self.recipe) == "model_parallel":
            check_shardable(pl_module, mesh_of(self.recipe)[1])
        names = known_names(pl_module)
        if names is not None:
            _check_monitors(trainer, names)
        raise _Begun


def _check_monitors(trainer: L.Trainer, names: Mapping[str, object]) -> None:
    """What schedules and callbacks would look for after the first epoch."""
    for config in trainer.lr_scheduler_configs:
        if config.reduce_on_plateau and config.monitor is not None:
            find_name(config.monitor, names, "schedule.monitor")
    if isinstance(trainer.lightning_module, GAN):  # which steps its schedules itself
        for monitor in trainer.lightning_module.schedules.monitors:
            find_name(monitor, names, "schedule.monitor")
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, EarlyStopping):
            find_name(callback.monitor, names, "early_stopping.monitor")


def known_names(module: L.LightningModule) -> dict[str, None] | None:
    """The names that a module will log in an epoch, where they are known beforehand: those of trainoff's own hooks."""
    if type(module) is GAN:
        return dict.fromkeys(LOGGED_NAMES)
    hooks = ("training_step", "validation_step", "on_train_epoch_end", "on_validation_epoch_end")
    kind = type(module)
    if not isinstance(module, SupervisedModule) or any(
        getattr(kind, h) is not getattr(SupervisedModule, h) for h in hooks
    ):
        return None
    return dict.fromkeys(["train/loss", "val/loss", *map(str, module.validation_metrics.keys())])


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
    _check_strategy(trial)
    try:
        with fixed_randomness(), contextlib.redirect_stdout(io.StringIO()):
            begin(_for_the_cpu(trial), _sharing_data(datamodule), _End(Recipe.of(trial.setting)))
    except UserError:
        raise
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # which Lightning turns into the end of the process
            raise error.__context__ from None
    except Exception:
        return


def _check_strategy(trial: Trial) -> None:
    """What can be said of several devices by one process."""
    recipe = Recipe.of(trial.setting)
    check_requirements(recipe)
    nodes = arguments_of(cast("dict[str, Any]", recipe.strategy)).get("nodes", 1) if recipe.strategy is not None else 1
    if nodes != 1:
        raise UserError(
            f"asks for {nodes} nodes; a suite's trial trains on one machine. With a script of your own under "
            "torchrun or srun: L.Trainer(**recipe.trainer_arguments()).fit(recipe.apply(module), datamodule)",
            "strategy.nodes",
        )
    processes = processes_of(trial.setting.get("strategy"))
    if strategy_name(recipe) == "xla" and processes > 1:
        raise UserError(
            f"asks for {processes} TPU cores; a suite's trial trains on one. In a script of your own: "
            "L.Trainer(**recipe.trainer_arguments()).fit(recipe.apply(module), datamodule)",
            "strategy.devices",
        )
    shares = mesh_of(recipe)[0] if strategy_name(recipe) == "model_parallel" else processes
    if isinstance(recipe.batch, int) and recipe.batch % shares:
        raise UserError(
            f"a batch of {recipe.batch} cannot be shared equally by {shares} devices; make it a multiple of {shares}",
            "batch",
        )


def _for_the_cpu(trial: Trial) -> Trial:
    """The trial without what only its own devices can say; this process leaves accelerators to the workers."""
    elsewhere = CUDAAccelerator.is_available() or MPSAccelerator.is_available()
    left_out = ("strategy", "precision") if elsewhere else ("strategy",)
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
    """The loader; where it is torch's, it starts no processes and wakes no accelerator."""
    if isinstance(loader, DataLoader):
        loader.num_workers, loader.timeout, loader.pin_memory = 0, 0, False
    return loader
