"""Initialisations by their variance over many draws, and the draws' independence of what was drawn before."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from torch import nn
from users_project import UsersData, UsersModule, make_trainer, parameters_of

from trainoff.modules import Recipe
from trainoff.modules.initialisation_functions import initialise

FAN_IN, FAN_OUT = 300, 500
VARIANCES = {
    "xavier": 2 / (FAN_IN + FAN_OUT),
    "xavier_uniform": 2 / (FAN_IN + FAN_OUT),
    "xavier_normal": 2 / (FAN_IN + FAN_OUT),
    "kaiming": 2 / FAN_IN,
    "kaiming_normal": 2 / FAN_IN,
    "kaiming_uniform": 2 / FAN_IN,
}


@pytest.mark.parametrize("name", VARIANCES)
def test_variance_of_150_000_weights(name):
    L.seed_everything(0, verbose=False)
    layer = nn.Linear(FAN_IN, FAN_OUT)
    initialise(layer, {"name": name})
    # Of n draws the variance's relative standard error is at most √(2/n) (normal): 0.4 % here; five of them.
    assert layer.weight.var().item() == pytest.approx(VARIANCES[name], rel=0.02)
    assert layer.weight.mean().abs() < 5 * (VARIANCES[name] / layer.weight.numel()) ** 0.5
    assert torch.equal(layer.bias, torch.zeros(FAN_OUT))


@pytest.mark.parametrize("name", ["xavier", "kaiming_uniform"])
def test_uniform_forms_are_bounded(name):
    layer = nn.Linear(FAN_IN, FAN_OUT)
    initialise(layer, {"name": name})
    assert layer.weight.abs().max() <= (3 * VARIANCES[name]) ** 0.5


def test_kaiming_keeps_the_signal_through_thirty_relu_layers():
    L.seed_everything(0, verbose=False)
    net = nn.Sequential(*(part for _ in range(30) for part in (nn.Linear(256, 256, bias=False), nn.ReLU())))
    inputs = torch.randn(512, 256)
    initialise(net, {"name": "kaiming"})
    # E[h²] stays put with gain 2/fan-in, and halves with each layer under 1/fan-in.
    ratio = (net(inputs) ** 2).mean() / (inputs**2).mean()
    assert 0.1 < ratio < 10


def test_the_draw_depends_on_the_seed_alone():
    drawn = []
    for noise in (0, 3):
        L.seed_everything(5, verbose=False)
        torch.randn(noise)
        layer = nn.Linear(4, 4)
        initialise(layer, {"name": "xavier"})
        drawn.append(layer.weight.clone())
    assert torch.equal(*drawn)
    L.seed_everything(6, verbose=False)
    initialise(layer, {"name": "xavier"})
    assert not torch.equal(drawn[0], layer.weight)


def test_the_global_generator_is_left_as_it_was():
    layer = nn.Linear(4, 4)
    torch.manual_seed(1)
    expected = torch.rand(5)
    torch.manual_seed(1)
    initialise(layer, {"name": "kaiming"})
    assert torch.equal(torch.rand(5), expected)


def test_a_foreign_module_is_initialised_when_the_recipe_is_applied():
    module = Recipe("sgd", initialisation="kaiming").apply(UsersModule(hidden=32))
    assert all(torch.equal(layer.bias, torch.zeros_like(layer.bias)) for layer in (module.net[0], module.net[2]))


class Late(UsersModule):
    """Builds its net when the Trainer starts."""

    def __init__(self):
        super().__init__()
        self.net = None

    def configure_model(self):
        if self.net is None:
            self.net = UsersModule().net


def test_a_net_built_in_configure_model_is_initialised_once_and_before_training():
    """To the weights of one that was there when the recipe was applied; what follows a training leaves them."""
    made = []
    for kind in (UsersModule, Late):
        L.seed_everything(5, verbose=False)
        module = Recipe({"name": "sgd", "lr": 0.0}, initialisation="kaiming").apply(kind())
        make_trainer().fit(module, datamodule=UsersData())
        made.append(parameters_of(module))
    assert torch.equal(*made)
    assert torch.equal(module.net[0].bias, torch.zeros(16))
    module = Recipe({"name": "sgd", "lr": 0.5}, initialisation="kaiming").apply(Late())
    trainer = make_trainer()
    trainer.fit(module, datamodule=UsersData())
    trained = parameters_of(module)
    assert not torch.equal(trained, made[1])
    trainer.test(module, datamodule=UsersData(), verbose=False)
    assert torch.equal(parameters_of(module), trained)
