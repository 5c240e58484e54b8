"""Trainings with a pruning method, and a look at the weights at each step of them."""

from __future__ import annotations

import lightning as L
import torch
from torch import nn
from users_project import UsersData, UsersModule, make_trainer

from trainoff.datamodules import TensorBatches
from trainoff.modules import Recipe

# One of each kind that does something of its own to weights or state.
OPTIMIZERS = {
    "momentum": {"name": "sgd", "lr": 0.1, "momentum": 0.95, "nesterov": True},
    "coupled decay": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.1},
    "adamw": {"name": "adamw", "lr": 0.01, "weight_decay": 0.3},
    "lookahead": {"name": "lookahead", "base_optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9}},
    "sam": {"name": "sam", "base_optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9}},
    "schedule-free": {"name": "schedulefreeadamw", "lr": 0.01},
    "lbfgs": {"name": "lbfgs", "lr": 0.01, "max_iter": 3},
    "lion": {"name": "lion", "lr": 1e-3, "weight_decay": 0.1},
    "muon": {"name": "muon", "lr": 0.02},
    "second derivatives": {"name": "adahessian", "lr": 0.01},
}


class OrderedData(UsersData):
    """The same order in every epoch: 6 steps each. Its loader can be resumed within an epoch."""

    def train_dataloader(self):
        return TensorBatches(self.train_set.tensors, self.batch_size)


class Deep(UsersModule):
    """Three layers, so that two are hidden."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))

    def forward(self, inputs):
        return self.net(inputs)


class Steps(L.Callback):
    """Copies of the parameters: before training, before and after each step, at each validation."""

    def __init__(self) -> None:
        self.begun: list[dict[str, torch.Tensor]] = []
        self.ended: list[dict[str, torch.Tensor]] = []
        self.validated: list[dict[str, torch.Tensor]] = []

    def on_train_start(self, trainer, pl_module):
        self.initial = copy_of(pl_module)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.begun.append(copy_of(pl_module))  # before the recipe's callbacks

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.validated.append(copy_of(pl_module))

    def on_train_epoch_end(self, trainer, pl_module):
        self.ended.append(copy_of(pl_module))


def copy_of(module):
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def pruning_of(module):
    """The module's pruning callback."""
    (found,) = [callback for callback in module.recipe_callbacks if hasattr(callback, "masks")]
    return found


def train(pruning, epochs=4, optimizer=None, module=None, callbacks=(), ckpt_path=None, seed=2, trainer=(), **recipe):
    """Train a user's module; returns it, its pruning callback, the steps and the Trainer."""
    L.seed_everything(seed, verbose=False)
    module = Deep() if module is None else module
    recipe = Recipe(optimizer or {"name": "sgd", "lr": 0.1, "momentum": 0.9}, pruning=pruning, **recipe)
    recipe.apply(module)
    watch = Steps()
    trainer = make_trainer(max_epochs=epochs, callbacks=[watch, *callbacks], num_sanity_val_steps=0, **dict(trainer))
    trainer.fit(module, datamodule=OrderedData(), ckpt_path=ckpt_path, weights_only=True)
    return module, pruning_of(module) if pruning is not None else None, watch, trainer
