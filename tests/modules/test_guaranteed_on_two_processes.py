"""Every guaranteed optimizer on two gloo processes ends where one process ends on the same global batches."""

from __future__ import annotations

import os
import socket

import lightning as L
import pytest
import torch
from users_project import UsersData, UsersModule, make_trainer, parameters_of

from trainoff.modules import OPTIMIZERS, Recipe

GUARANTEED = [entry.name for entry in OPTIMIZERS if entry.guaranteed]
# Newton-Schulz runs in bfloat16, where a last bit of the gradient may turn a rounding.
HALF_PRECISION = {"muon", "po_muon"}


def train(name: str, devices: int) -> torch.Tensor:
    """Twelve steps in float64, so that no sign of a gradient hangs on the order of a sum."""
    L.seed_everything(4, verbose=False)
    rate = {} if name in ("adadelta", "prodigy", "lookahead", "sam") else {"lr": 0.01}
    recipe = Recipe({"name": name, **rate}, "cosine", batch=32, precision="64-true")
    module = recipe.apply(UsersModule())
    trainer = make_trainer(max_epochs=4, devices=devices, strategy="ddp", precision="64-true")
    trainer.fit(module, datamodule=UsersData())
    assert trainer.global_step == 12
    assert trainer.world_size == devices
    return parameters_of(module)


def train_all(rank: int, devices: int, port: int, path: str) -> None:
    """In a process that was started as torchrun would start it: one group of processes for all trainings."""
    torch.set_num_threads(1)
    os.environ.update(
        TORCHELASTIC_RUN_ID="test", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GROUP_RANK="0",
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(devices), LOCAL_WORLD_SIZE=str(devices),
    )  # fmt: skip
    trained = {name: train(name, devices) for name in GUARANTEED}
    if rank == 0:
        torch.save(trained, path)


@pytest.mark.slow
def test_two_processes_are_one_for_every_guaranteed_optimizer(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    trained = {}
    for devices in (1, 2):
        path = str(tmp_path / f"{devices}.pt")
        torch.multiprocessing.spawn(train_all, (devices, port + devices, path), nprocs=devices)
        trained[devices] = torch.load(path, weights_only=True)
    apart = {name: float((trained[1][name] - trained[2][name]).abs().max()) for name in GUARANTEED}
    limits = {name: 1e-3 if name in HALF_PRECISION else 1e-6 for name in GUARANTEED}
    assert not {name: distance for name, distance in apart.items() if not distance <= limits[name]}
