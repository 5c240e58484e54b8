"""Gradient noise, centralisation, max-norm and the confidence penalty against their formulas and autograd."""

from __future__ import annotations

import copy

import lightning as L
import pytest
import torch
from torch.nn import functional as F
from users_project import UsersData, UsersModule, make_trainer, parameters_of

from trainoff.modules import Recipe

RATE = 0.5


def one_step(regularizers, module, **arguments):
    """One full-batch SGD step."""
    trained = Recipe({"name": "sgd", "lr": RATE}, regularizers=regularizers, batch=96, **arguments).apply(module)
    recipe = trained.recipe
    make_trainer(**recipe.trainer_arguments()).fit(trained, datamodule=UsersData())
    return trained


def by_autograd(module, change=lambda g: g, penalty=lambda outputs: 0.0):
    """The same step by autograd."""
    inputs, targets = UsersData().train_set.tensors
    outputs = module.net(inputs)
    loss = F.cross_entropy(outputs, targets) + penalty(outputs)
    gradients = torch.autograd.grad(loss, list(module.parameters()))
    return torch.cat([(p - RATE * change(g)).flatten() for p, g in zip(module.parameters(), gradients, strict=True)])


@pytest.mark.parametrize("microbatches", [1, 3])
def test_centralized_gradients_have_no_mean(microbatches):
    module = UsersModule()

    def centred(gradient):
        return gradient if gradient.ndim == 1 else gradient - gradient.mean(1, keepdim=True)

    expected = by_autograd(copy.deepcopy(module), centred)
    one_step(["gradient_centralization"], module, microbatches=microbatches)
    torch.testing.assert_close(parameters_of(module), expected.detach().double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("microbatches", [1, 3])
def test_the_confidence_penalty_is_minus_the_entropy(microbatches):
    module = UsersModule()

    def penalty(outputs):
        probabilities = outputs.softmax(1)
        return 0.7 * (probabilities * probabilities.log()).sum(1).mean()

    expected = by_autograd(copy.deepcopy(module), penalty=penalty)
    choice = {"name": "confidence_penalty", "coefficient": 0.7}
    one_step([choice], module, microbatches=microbatches)
    torch.testing.assert_close(parameters_of(module), expected.detach().double(), rtol=0, atol=1e-6)
    # It has let go of the loss, which validation has used without it too.
    assert not module.loss._forward_hooks


def test_the_confidence_penalty_leaves_validation_alone():
    losses = []
    for regularizers in ([], [{"name": "confidence_penalty", "coefficient": 0.5}]):
        L.seed_everything(0, verbose=False)
        module = Recipe({"name": "sgd", "lr": 0.0}, regularizers=regularizers).apply(UsersModule())
        trainer = make_trainer()
        trainer.fit(module, datamodule=UsersData())
        losses.append(float(trainer.callback_metrics["val_loss"]))
    assert losses[0] == losses[1]


def test_gradient_noise_has_its_deviation_and_decays():
    class Wide(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(20_000))

        def training_step(self, batch, batch_idx):
            return 0.0 * self.weight.sum()

    steps = []

    class Changes(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            steps.append(pl_module.weight.detach().clone())

    choice = {"name": "gradient_noise", "sigma": 0.3, "gamma": 1.0}
    module = Recipe({"name": "sgd", "lr": 1.0}, regularizers=[choice]).apply(Wide())
    make_trainer(callbacks=[Changes()]).fit(module, torch.utils.data.DataLoader(torch.zeros(4, 1)))
    changes = torch.diff(torch.stack([torch.zeros(20_000), *steps]), dim=0)
    expected = [0.3 / (1 + step) ** 0.5 for step in range(4)]
    assert changes.std(dim=1).tolist() == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("optimizer", [{"name": "sgd", "lr": 3.0, "momentum": 0.9}, {"name": "adamw", "lr": 0.5}])
def test_max_norm_holds_after_every_step(optimizer):
    norms, biases = [], []

    class Norms(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            norms.extend(pl_module.net[0].weight.norm(dim=1).tolist() if trainer.global_step else [])
            biases.append(float(pl_module.net[0].bias.norm()))

    module = Recipe(optimizer, regularizers=[{"name": "max_norm", "maximum": 0.8}]).apply(UsersModule())
    before = module.net[0].weight.detach().clone()
    make_trainer(max_epochs=4, callbacks=[Norms()]).fit(module, datamodule=UsersData())
    assert max(norms) <= 0.8 + 1e-5
    assert min(norms) < 0.8 or max(norms) == pytest.approx(0.8)
    assert max(biases) > 0.8  # of one dimension: not bounded
    assert not torch.equal(before, module.net[0].weight)


def test_max_norm_leaves_short_weights_as_they_are():
    modules = UsersModule(), UsersModule()
    modules[1].load_state_dict(modules[0].state_dict())
    one_step([], modules[0])
    one_step([{"name": "max_norm", "maximum": 100.0}], modules[1])
    # The batch's order differs, and with it the last bits.
    torch.testing.assert_close(*map(parameters_of, modules), rtol=0, atol=1e-6)
