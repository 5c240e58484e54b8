"""Initialisations by their variance over many draws, and the draws' independence of what was drawn before."""

from __future__ import annotations

import math

import lightning as L
import pytest
import torch
from torch import nn
from users_project import UsersData, UsersModule, make_trainer, parameters_of

from trainoff.errors import UserError
from trainoff.modules import Recipe
from trainoff.modules.initialisation_functions import initialise
from trainoff.modules.nets.resnet_cifar import CifarResNet, shortcut

FAN_IN, FAN_OUT = 300, 500
VARIANCES = {
    "xavier": 2 / (FAN_IN + FAN_OUT),
    "xavier_uniform": 2 / (FAN_IN + FAN_OUT),
    "xavier_normal": 2 / (FAN_IN + FAN_OUT),
    "kaiming": 2 / FAN_IN,
    "kaiming_normal": 2 / FAN_IN,
    "kaiming_uniform": 2 / FAN_IN,
    "lecun": 1 / FAN_IN,
    "lecun_normal": 1 / FAN_IN,
    "lecun_uniform": 1 / FAN_IN,
    "orthogonal": 1 / FAN_OUT,  # 300 orthonormal columns of 500 entries
    # Of a normal cut off at ±2: 1 − 4φ(2) / (Φ(2) − Φ(−2)).
    "truncated_normal": 0.02**2 * (1 - 4 * 0.0539909665 / 0.9544997361),
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


def test_orthogonal_weights_are_orthonormal_times_the_gain():
    layers = nn.ModuleList([nn.Linear(20, 50), nn.Linear(50, 20), nn.Conv2d(3, 8, 3)])
    initialise(layers, {"name": "orthogonal", "gain": 3.0})
    for layer in layers:
        matrix = layer.weight.detach().flatten(1)
        smaller = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
        torch.testing.assert_close(smaller, 9 * torch.eye(len(smaller)), rtol=0, atol=1e-5)


def test_truncation_is_at_two_deviations():
    layer = nn.Linear(FAN_IN, FAN_OUT)
    initialise(layer, {"name": "truncated_normal", "std": 0.1})
    assert 0.19 < layer.weight.abs().max() <= 0.2


def test_lecun_keeps_the_signal_through_thirty_linear_layers():
    L.seed_everything(0, verbose=False)
    net = nn.Sequential(*(nn.Linear(256, 256) for _ in range(30)))
    inputs = torch.randn(512, 256)
    initialise(net, {"name": "lecun"})
    assert 0.1 < (net(inputs) ** 2).mean() / (inputs**2).mean() < 10


@pytest.mark.parametrize("norm", ["batch", "group", None])
def test_zero_residual_starts_as_the_shortcuts_alone(norm):
    net = CifarResNet((3, 8, 8), 10, depth=20, width=4, norm=norm).eval()
    initialise(net, {"name": "zero_residual"})
    inputs = torch.randn(5, 3, 8, 8)
    expected = net.stem(inputs)
    for block in net.blocks:  # not negative, so that the block's activation changes nothing
        expected = shortcut(expected, block.channels, block.stride)
    torch.testing.assert_close(net.blocks(net.stem(inputs)), expected)


def test_fixup_is_its_three_factors():
    net = CifarResNet((3, 8, 8), 10, depth=50, width=16, norm=None)
    L.seed_everything(1, verbose=False)
    initialise(net, {"name": "fixup"})
    assert not net.output.weight.any()
    assert len(net.blocks) == 24
    for block in net.blocks:
        assert not block.convolution2.weight.any()
        # m = 2 layers a branch: L^(−1/2) on the deviation, 1/L on the variance.
        fan_in = block.convolution1.weight[0].numel()
        count = block.convolution1.weight.numel()
        expected = 2 / fan_in / 24
        assert block.convolution1.weight.var().item() == pytest.approx(expected, rel=5 * (2 / count) ** 0.5)


def test_fixup_starts_at_the_loss_of_a_guess_where_kaiming_starts_in_the_hundreds():
    """He's draw enlarges the signal at each of 24 blocks without norms."""
    inputs, targets = torch.randn(64, 3, 8, 8), torch.randint(10, (64,))
    losses = {}
    for name in ("kaiming", "fixup"):
        L.seed_everything(0, verbose=False)
        net = CifarResNet((3, 8, 8), 10, depth=50, width=8, norm=None)
        initialise(net, {"name": name})
        losses[name] = nn.functional.cross_entropy(net(inputs), targets).item()
    assert losses["fixup"] == pytest.approx(math.log(10), abs=1e-5)  # the classifier is zero
    assert losses["kaiming"] > 100


@pytest.mark.parametrize(
    ("name", "net", "message"),
    [
        ("fixup", nn.Linear(2, 2), "no block with a residual_branch"),
        ("zero_residual", nn.Linear(2, 2), "no block with a residual_branch"),
        ("fixup", CifarResNet((1, 8, 8), 2, depth=8, width=2), "norm: null"),
    ],
)
def test_initialisations_of_residual_nets_refuse_others(name, net, message):
    with pytest.raises(UserError, match=message):
        initialise(net, {"name": name})


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
