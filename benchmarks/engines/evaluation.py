"""Evaluating one state of a module on the three splits, whoever wrote the module and the DataModule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Subset

from trainoff.benchmarks.meters.curves import check_logged, find_logged
from trainoff.benchmarks.record import Scores, Splits
from trainoff.benchmarks.trial import Task
from trainoff.errors import UserError
from trainoff.seeds import derive_seed


def evaluate(
    trainer: L.Trainer, module: L.LightningModule, datamodule: L.LightningDataModule, task: Task, val: Scores | None
) -> Splits:
    """Scores of the module's present state: the validation step over train and validation, the test step over test.

    Args:
        trainer: That trained it.
        module: In any state.
        datamodule: Which was set up for fit.
        task: Whose metric.
        val: The scores on validation where they are known; else they are taken anew.

    Raises:
        UserError: Where the module logs no such metric.
    """
    datamodule.setup("fit")  # a DataModule may have let go of its data at the end of fit
    if val is None:
        loader = datamodule.val_dataloader()
        on_val = trainer.validate(module, dataloaders=loader, verbose=False)
        check_logged(_merged(on_val), "val", task, module)
        val = _scores(on_val, "val", task)
    on_test = trainer.test(module, datamodule=datamodule, verbose=False)
    on_train = trainer.validate(module, dataloaders=train_eval_loader(datamodule), verbose=False)
    check_logged(_merged(on_test), "test", task, module)
    return Splits(train=_scores(on_train, "val", task), val=val, test=_scores(on_test, "test", task))


def refuse_missing_test(module: L.LightningModule, datamodule: L.LightningDataModule) -> None:
    """Raise :class:`UserError` where the test split or the test step is missing: validation chooses, test reports."""
    if type(datamodule).test_dataloader is L.LightningDataModule.test_dataloader:
        raise UserError(
            f"{type(datamodule).__name__} has no test_dataloader; settings are chosen on validation and reported on "
            "test, so both are needed"
        )
    if type(module).test_step is L.LightningModule.test_step:
        raise UserError(
            f"{type(module).__name__} has no test_step; log the task's metric there, as in validation_step"
        )


def train_eval_loader(datamodule: L.LightningDataModule) -> Any:
    """A loader over a fixed part of the training split, as large as the test split, in a fixed order.

    The DataModule's own ``train_eval_dataloader`` where it has one; else the training loader's dataset, cut by a
    permutation that does not depend on the trial's seed; else (a loader without a dataset) the training loader.
    """
    own = getattr(datamodule, "train_eval_dataloader", None)
    if own is not None:
        return own()
    loader = datamodule.train_dataloader()
    if not isinstance(loader, DataLoader) or not hasattr(loader.dataset, "__len__"):
        return loader
    test = datamodule.test_dataloader()
    size = len(test.dataset) if isinstance(test, DataLoader) and hasattr(test.dataset, "__len__") else None
    generator = torch.Generator().manual_seed(derive_seed(0, "train evaluation"))
    order = torch.randperm(len(loader.dataset), generator=generator)[:size].tolist()
    batch = loader.batch_size or getattr(loader.batch_sampler, "batch_size", 1)
    return DataLoader(Subset(loader.dataset, order), batch_size=batch, collate_fn=loader.collate_fn)


def _merged(results: list[Mapping[str, float]]) -> dict[str, float]:
    return {key: value for result in results for key, value in result.items()}


def _scores(results: list[Mapping[str, float]], split: Any, task: Task) -> Scores:
    logged = _merged(results)
    return Scores(find_logged(logged, split, task.metric), find_logged(logged, split, "loss"))
