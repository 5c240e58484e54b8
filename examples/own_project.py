"""A user's own LightningModule and DataModule, as `own_suite.yaml` names them by class_path; no trainoff in here."""

from __future__ import annotations

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class MyModule(L.LightningModule):
    def __init__(self, hidden: int = 16) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 2))
        self.loss = nn.CrossEntropyLoss()

    def training_step(self, batch, batch_idx):
        inputs, targets = batch
        return self.loss(self.net(inputs), targets)

    def validation_step(self, batch, batch_idx):
        self._log("val", batch)

    def test_step(self, batch, batch_idx):
        self._log("test", batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)

    def _log(self, split, batch):
        inputs, targets = batch
        outputs = self.net(inputs)
        self.log(f"{split}_loss", self.loss(outputs, targets))
        self.log(f"{split}_acc", (outputs.argmax(1) == targets).float().mean())


class MyDataModule(L.LightningDataModule):
    """Points of four coordinates: is the product of the first two positive?"""

    def __init__(self, batch_size: int = 32) -> None:
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        inputs = torch.randn(600, 4, generator=torch.Generator().manual_seed(0))
        targets = (inputs[:, 0] * inputs[:, 1] > 0).long()
        self.parts = [TensorDataset(inputs[i:j], targets[i:j]) for i, j in ((0, 360), (360, 480), (480, 600))]

    def train_dataloader(self):
        return DataLoader(self.parts[0], batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.parts[1], batch_size=120)

    def test_dataloader(self):
        return DataLoader(self.parts[2], batch_size=120)
