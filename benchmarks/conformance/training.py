"""The small real training that optimizers, regularizers and nets are checked on: scikit-learn's digits."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainoff.benchmarks.randomness import DerivedGenerators, seed_everything
from trainoff.datamodules.scikit_learn import Digits
from trainoff.modules.recipe import Recipe

SEED = 20
EPOCHS = 5
HALF = 2  # epochs after which a training is interrupted, to be resumed
BATCH = 64


@dataclass(frozen=True)
class Outcome:
    """A training that has ended.

    Args:
        start: The training split's loss before the first step, in evaluation mode, nats a sample.
        end: The same after the last step.
        steps: Optimizer steps.
        parameters: All of them in one vector, double precision.
        module: What was trained.
        trainer: What trained it.
    """

    start: float
    end: float
    steps: int
    parameters: Tensor
    module: L.LightningModule
    trainer: L.Trainer

    @property
    def falls(self) -> bool:
        """Whether the loss ended clearly below its start: at 0.7 of it or less."""
        return math.isfinite(self.end) and self.end < 0.7 * self.start

    def __str__(self) -> str:
        return f"loss {self.start:.2f} -> {self.end:.2f} in {self.steps} steps"


class _LossProbe(L.Callback):
    """Takes the loss of the training split before and after, on a copy that the training does not see."""

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        self.inputs = inputs
        self.targets = targets
        self.start = self.end = math.nan

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The loss before the first step."""
        self.start = self._loss(pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The loss after the last."""
        self.end = self._loss(pl_module)

    @torch.no_grad()
    def _loss(self, module: L.LightningModule) -> float:
        assert isinstance(module.net, nn.Module)
        net = copy.deepcopy(module.net).float().eval()
        return float(cross_entropy(net(self.inputs), self.targets))


class _StopAfter(L.Callback):
    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop where an interruption would; ``max_epochs`` stays, since schedules depend on it."""
        trainer.should_stop = trainer.current_epoch + 1 == self.epochs


class ForeignModule(L.LightningModule):
    """A LightningModule of somebody who knows nothing of recipes: no layer for dropout, its loss a function."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy."""
        inputs, targets = batch
        return cross_entropy(self.net(inputs), targets)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Logs the loss under the name that regularizers watch by default."""
        inputs, targets = batch
        self.log("val/loss", cross_entropy(self.net(inputs), targets))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Its own, which the recipe replaces."""
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def train(
    make: Callable[[Recipe], L.LightningModule],
    recipe: Recipe,
    data: Callable[[], Digits] = Digits,
    batch: int | Literal["full"] = BATCH,
    stop_after: int | None = None,
    resume_from: Path | None = None,
    callbacks: Sequence[L.Callback] = (),
) -> Outcome:
    """Train a classifier of digits for :data:`EPOCHS` epochs on the CPU.

    Args:
        make: Makes the LightningModule, with its net as ``net``.
        recipe: Without a batch.
        data: Makes the DataModule.
        batch: Samples a step.
        stop_after: End after so many epochs.
        resume_from: A checkpoint, loaded with ``weights_only=True``.
        callbacks: Given to the Trainer.
    """
    seed_everything(SEED)
    datamodule = data()
    datamodule.batch_size = batch
    probe = _LossProbe(*datamodule.split("train"))
    seed_everything(SEED)
    module = make(recipe)
    stopping = [_StopAfter(stop_after)] if stop_after is not None else []
    trainer = L.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[DerivedGenerators(SEED), probe, *stopping, *callbacks],
        **recipe.trainer_arguments(),
    )
    resuming = {} if resume_from is None else {"ckpt_path": resume_from, "weights_only": True}
    trainer.fit(module, datamodule=datamodule, **resuming)  # type: ignore[arg-type]
    parameters = torch.cat([parameter.detach().flatten().double() for parameter in module.parameters()])
    return Outcome(probe.start, probe.end, trainer.global_step, parameters, module, trainer)
