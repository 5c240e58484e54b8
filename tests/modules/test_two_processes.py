"""A recipe on two real gloo processes ends where one process ends on the same global batches."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from users_project import make_trainer, parameters_of

from trainoff.datamodules import Digits
from trainoff.modules import Classifier, Recipe


@pytest.mark.slow
@pytest.mark.parametrize("microbatches", [1, 2])
@pytest.mark.parametrize(
    "optimizer", [{"name": "sgd", "lr": 0.1, "momentum": 0.9}, {"name": "adamw", "lr": 1e-3}], ids=["sgd", "adamw"]
)
def test_two_processes_are_one(optimizer, microbatches):
    """With l2 and clipping, ten steps; `batch` is the global batch, so each process gets half of it."""
    trained = []
    for devices in (1, 2):
        L.seed_everything(4, verbose=False)
        regularizers = [{"name": "l2", "coefficient": 1e-3}, {"name": "gradient_clip", "maximum": 0.5}]
        strategy = {"name": "ddp_spawn", "devices": 2} if devices == 2 else None
        recipe = Recipe(optimizer, "cosine", regularizers, batch=64, microbatches=microbatches, strategy=strategy)
        module = Classifier({"name": "mlp", "hidden": [16]}, recipe, input_shape=(1, 8, 8), output_size=10)
        arguments = {"devices": 1, **recipe.trainer_arguments()}
        make_trainer(max_epochs=1, max_steps=10, **arguments).fit(module, datamodule=Digits())
        trained.append(parameters_of(module))
    torch.testing.assert_close(*trained, rtol=0, atol=1e-6)
