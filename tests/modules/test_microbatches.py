"""Micro-batches against the undivided batch, also where the last part is smaller."""

from __future__ import annotations

import copy

import lightning as L
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from users_project import make_trainer, parameters_of

from trainoff.datamodules import Digits
from trainoff.modules import Classifier, Recipe
from trainoff.modules.microbatches import MicrobatchAveraging


class Quadratic(L.LightningModule):
    """A net in double precision with a mean loss over samples."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()

    def training_step(self, batch, batch_idx):
        inputs, targets = batch
        return ((self.net(inputs) - targets) ** 2).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def _data(samples, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(samples, 4, generator=generator, dtype=torch.float64)
    return TensorDataset(inputs, inputs.sum(1, keepdim=True).sin())


@given(samples=st.integers(2, 70), part=st.integers(1, 70), seed=st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_full_batch_in_parts_equals_autograd_of_the_mean_loss(samples, part, seed):
    """One step over all samples, in parts whose size need not divide their number."""
    part = min(part, samples)
    data = _data(samples, seed)
    torch.manual_seed(seed)
    module = Quadratic()
    loss = ((module.net(data.tensors[0]) - data.tensors[1]) ** 2).mean()
    gradients = torch.autograd.grad(loss, list(module.parameters()))
    expected = torch.cat([(p - 0.1 * g).flatten() for p, g in zip(module.parameters(), gradients, strict=True)])
    parts = -(-samples // part)
    callbacks = [MicrobatchAveraging(parts)] if parts > 1 else []
    make_trainer(accumulate_grad_batches=parts, callbacks=callbacks).fit(module, DataLoader(data, batch_size=part))
    torch.testing.assert_close(parameters_of(module), expected.detach(), rtol=0, atol=1e-12)


def test_plain_accumulation_is_wrong_where_the_parts_differ():
    """What the callback is for: 24 + 24 + 16 against 64."""
    data = _data(64)
    torch.manual_seed(0)
    whole = Quadratic()
    plain, weighted = copy.deepcopy(whole), copy.deepcopy(whole)
    make_trainer().fit(whole, DataLoader(data, batch_size=64))
    make_trainer(accumulate_grad_batches=3).fit(plain, DataLoader(data, batch_size=24))
    make_trainer(accumulate_grad_batches=3, callbacks=[MicrobatchAveraging(3)]).fit(
        weighted, DataLoader(data, batch_size=24)
    )
    assert (parameters_of(whole) - parameters_of(plain)).abs().max() > 1e-4
    assert (parameters_of(whole) - parameters_of(weighted)).abs().max() < 1e-12


@pytest.mark.parametrize("batch", [64, "full"])
@pytest.mark.parametrize("optimizer", [{"name": "sgd", "lr": 0.1, "momentum": 0.9}, {"name": "adamw", "lr": 3e-3}])
def test_three_parts_of_64_equal_the_undivided_batch_through_a_recipe(batch, optimizer):
    """On our own DataModule, with l2 and clipping, two epochs, 64 being no multiple of 3."""
    trained = []
    for microbatches in (1, 3):
        L.seed_everything(5, verbose=False)
        regularizers = [{"name": "l2", "coefficient": 1e-3}, {"name": "gradient_clip", "maximum": 0.5}]
        recipe = Recipe(optimizer, regularizers=regularizers, batch=batch, microbatches=microbatches)
        module = Classifier({"name": "mlp", "hidden": [16]}, recipe=recipe)
        trainer = make_trainer(max_epochs=2, **recipe.trainer_arguments())
        trainer.fit(module, datamodule=Digits())
        trained.append((parameters_of(module), trainer.global_step))
    assert trained[0][1] == trained[1][1]
    torch.testing.assert_close(
        trained[0][0], trained[1][0], rtol=0, atol=2e-5 if optimizer["name"] == "adamw" else 1e-6
    )
