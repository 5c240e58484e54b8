"""DataModules of each kind on two real processes: each its own part, and every sample counted once."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from tables_on_disk import stream_of, write_numbers
from torch import Tensor
from users_project import make_trainer

from trainoff.datamodules import MNIST, Melodies, ParquetStream, TaskSequence, TimeSeries


class Rows(L.LightningModule):
    """Records a number for each sample that it is given."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trained: list[Tensor] = []
        self.validated: list[Tensor] = []

    def numbers(self, inputs: Tensor) -> Tensor:
        flat = inputs.double().flatten(1)
        return (flat * torch.arange(1, flat.shape[1] + 1, dtype=torch.float64).sin()).sum(1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.trained.append(self.numbers(batch[0]))
        return self.weight * 0

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.validated.append(self.numbers(batch[0]))

    def on_fit_end(self) -> None:
        torch.save((self.trained, torch.cat(self.validated)), Path(self.folder) / f"{self.trainer.global_rank}.pt")

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def mnist(folder: Path) -> MNIST:
    generator = np.random.default_rng(0)
    for part, count in (("train", 151), ("t10k", 20)):
        for name, array in (
            ("images-idx3", generator.integers(0, 256, (count, 28, 28)).astype(np.uint8)),
            ("labels-idx1", np.arange(count, dtype=np.uint8) % 10),
        ):
            header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            (folder / f"{part}-{name}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
    return MNIST(str(folder), batch_size=32, augmentation=["flip", "crop"])


def parquet(folder: Path) -> ParquetStream:
    write_numbers(folder, 403)
    return stream_of(folder, block=19, window=4, batch_size=32)


def arrow(folder: Path) -> ParquetStream:
    """Set up before it is sent to another process."""
    write_numbers(folder, 403, kind="arrow stream")
    data = stream_of(folder, block=19, window=4, batch_size=32)
    data.setup("fit")
    return data


def series(folder: Path) -> TimeSeries:
    """252 windows to train on, 45 to validate."""
    values = np.random.default_rng(0).normal(size=(400, 2)).cumsum(0)
    np.savetxt(folder / "series.csv", values, delimiter=",", header="a,b", comments="")
    return TimeSeries(str(folder / "series.csv"), "a", window=14, horizon=2, batch_size=32)


def music(folder: Path) -> Melodies:
    return Melodies(bars=900, length=16, batch_size=32)


def tasks(folder: Path) -> TaskSequence:
    return TaskSequence(["digits", {"name": "digits", "train_samples": 301}], epochs=1, batch_size=64)


@pytest.mark.slow
@pytest.mark.parametrize("make", [mnist, parquet, arrow, tasks, series, music])
def test_two_processes_share_what_one_sees(make: Any, tmp_path: Path) -> None:
    seen = {}
    for devices, strategy in ((1, "auto"), (2, "ddp_spawn")):
        folder = tmp_path / str(devices)
        folder.mkdir()
        L.seed_everything(3, verbose=False)
        trainer = make_trainer(max_epochs=2, devices=devices, strategy=strategy, num_sanity_val_steps=0)
        trainer.fit(Rows(str(folder)), datamodule=make(tmp_path))
        seen[devices] = [torch.load(folder / f"{rank}.pt") for rank in range(devices)]
    ((alone, validated),), ((first, one), (second, two)) = seen[1], seen[2]
    assert min(len(one), len(two)) > 0
    assert sorted(torch.cat([one, two]).tolist()) == sorted(validated.tolist())
    assert len(first) == len(second) == len(alone)
    for parts, batch in zip(zip(first, second, strict=True), alone, strict=True):
        together = torch.cat(parts)
        assert torch.equal(together, batch[: len(together)])  # of an odd number the last one is left out
        assert len(batch) - len(together) in (0, 1)
