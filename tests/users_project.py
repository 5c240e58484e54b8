"""A LightningModule and a DataModule as a user writes them, and what tests do with them."""

from __future__ import annotations

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from trainoff.modules.process_group import destroy_process_group_at_exit


class UsersModule(L.LightningModule):
    """A LightningModule as a user writes one: its own optimizer, its own callbacks, names of its own."""

    def __init__(self, hidden: int = 16) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, hidden), nn.Tanh(), nn.Linear(hidden, 3))
        self.loss = nn.CrossEntropyLoss()

    def training_step(self, batch, batch_idx):
        inputs, targets = batch
        return self.loss(self.net(inputs), targets)

    def _log(self, split, batch):
        inputs, targets = batch
        outputs = self.net(inputs)
        self.log(f"{split}_loss", self.loss(outputs, targets))
        self.log(f"{split}_acc", (outputs.argmax(1) == targets).float().mean())

    def validation_step(self, batch, batch_idx):
        self._log("val", batch)

    def test_step(self, batch, batch_idx):
        self._log("test", batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)


class UsersData(L.LightningDataModule):
    """A DataModule as a user writes one, on torch's DataLoader."""

    def __init__(self, batch_size: int = 16, samples: int = 96) -> None:
        super().__init__()
        self.batch_size = batch_size
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(samples, 6, generator=generator)
        targets = (inputs @ torch.randn(6, 3, generator=generator)).argmax(1)
        self.train_set = TensorDataset(inputs, targets)
        self.held_out = TensorDataset(inputs[:32] + 0.1, targets[:32])

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.held_out, batch_size=32)

    def test_dataloader(self):
        return DataLoader(self.held_out, batch_size=32)


class LeavesInOrder(L.Callback):
    """What a recipe's own checks do, for modules without a recipe."""

    def setup(self, trainer, pl_module, stage):
        destroy_process_group_at_exit()


def make_trainer(**arguments) -> L.Trainer:
    """A Trainer that writes nothing."""
    if arguments.get("devices", 1) > 1:
        arguments["callbacks"] = [*arguments.get("callbacks", []), LeavesInOrder()]
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
        "devices": 1,
    }
    return L.Trainer(**{**quiet, "max_epochs": 1, **arguments})


def parameters_of(module: nn.Module) -> torch.Tensor:
    """All parameters in one vector."""
    return torch.cat([parameter.detach().flatten().double() for parameter in module.parameters()])


def train_and_tell(module: L.LightningModule, connection) -> None:
    """Train in a spawned process, and send back the optimizer's class, the callbacks' classes and the parameters."""
    torch.set_num_threads(1)
    trainer = make_trainer()
    L.seed_everything(3, verbose=False)
    trainer.fit(module, datamodule=UsersData())
    callbacks = [type(callback).__name__ for callback in trainer.callbacks]
    connection.send((type(trainer.optimizers[0]).__name__, callbacks, parameters_of(module).tolist()))


class OrderWatcher(UsersModule):
    """Notes which samples each training batch has; a dropout layer is there for a recipe to use."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.0), nn.Tanh(), nn.Linear(16, 3))
        self.seen: list[list[float]] = []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch[0][:, 0].tolist())
        return super().training_step(batch, batch_idx)
