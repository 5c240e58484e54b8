"""Dynamic network surgery against a loop by hand, and a connection that must come back."""

from __future__ import annotations

import lightning as L
import numpy as np
import pytest
import torch
from pruning_runs import Deep, OrderedData, copy_of, pruning_of, train
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from users_project import UsersModule, make_trainer

from trainoff.errors import UserError
from trainoff.modules import Recipe

WEIGHTS = ("net.0.weight", "net.2.weight", "net.4.weight")


@pytest.mark.parametrize("gamma", [0.0, 0.3])
def test_it_is_algorithm_1_by_hand(gamma):
    """Dense weights, thresholds and masks in NumPy; the gradient at the masked weights from autograd."""
    choice = {"name": "dynamic_network_surgery", "c": 0.4, "margin": 0.2, "start": 0.25, "end": 0.75, "gamma": gamma}
    module, method, watch, _ = train(choice, optimizer={"name": "sgd", "lr": 0.3, "momentum": 0.9})
    net, data = Deep(), OrderedData()
    dense = {name: value.numpy().copy() for name, value in watch.initial.items()}
    momentum = {name: np.zeros_like(value) for name, value in dense.items()}
    masks, thresholds = {name: np.ones(dense[name].shape, bool) for name in WEIGHTS}, {}
    pruned = spliced = 0
    for step, (inputs, targets) in enumerate([*data.train_dataloader()] * 4):
        chance = float(torch.rand((), generator=torch.Generator().manual_seed(step)))
        if 6 <= step < 18 and chance < (1 + gamma * (step - 6)) ** -1.0:
            for name in WEIGHTS:
                size = np.abs(dense[name])
                t = thresholds.setdefault(name, size.mean() + 0.4 * size.std())
                new = np.where(size < 0.8 * t, False, np.where(size >= 1.2 * t, True, masks[name]))
                pruned += (masks[name] & ~new).sum()
                spliced += (~masks[name] & new).sum()
                masks[name] = new
        seen = {name: value * masks.get(name, 1) for name, value in dense.items()}
        net.load_state_dict({name: torch.tensor(value) for name, value in seen.items()})
        net.zero_grad()
        nn.functional.cross_entropy(net(inputs), targets).backward()
        for name, parameter in net.named_parameters():
            momentum[name] = 0.9 * momentum[name] + parameter.grad.numpy()
            dense[name] = dense[name] - np.float32(0.3) * momentum[name]
    for name in WEIGHTS:
        np.testing.assert_array_equal(method.masks[name].numpy(), masks[name])
        np.testing.assert_allclose(method.dense[name].numpy(), dense[name], atol=2e-5)
        np.testing.assert_allclose(copy_of(module)[name].numpy(), dense[name] * masks[name], atol=2e-5)
    assert (method.pruned, method.spliced) == (pruned, spliced)
    assert method.is_done
    assert spliced > 0


class OneInputMatters(L.LightningDataModule):
    """The class is the sign of the first of four inputs."""

    def train_dataloader(self):
        inputs = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
        return DataLoader(TensorDataset(inputs, (inputs[:, 0] > 0).long()), batch_size=16)

    val_dataloader = train_dataloader


class SmallestWhereItMatters(UsersModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 2, bias=False)
        with torch.no_grad():
            self.net.weight.copy_(torch.tensor([[-0.01, 0.5, -0.5, 0.5], [0.01, -0.5, 0.5, -0.5]]))


def trained(pruning):
    module = Recipe({"name": "sgd", "lr": 0.5}, pruning=pruning).apply(SmallestWhereItMatters())
    trainer = make_trainer(max_epochs=10)
    trainer.fit(module, datamodule=OneInputMatters())
    return module, pruning_of(module), float(trainer.callback_metrics["val_acc"])


def test_a_connection_that_is_missed_comes_back():
    """The only one that helps is the smallest at first: pruned at once, it must be spliced; magnitude never does."""
    module, method, accuracy = trained({"name": "dynamic_network_surgery", "c": 0.0, "start": 0.0, "gamma": 0.0})
    assert method.masks["net.weight"][:, 0].all()
    assert (module.net.weight[:, 0].abs() > 0.3).all()
    assert method.spliced >= 2
    assert accuracy > 0.95
    module, method, accuracy = trained({"name": "magnitude", "sparsity": 0.25, "at": 0.0})
    assert not method.masks["net.weight"][:, 0].any()
    assert not module.net.weight[:, 0].any()
    assert accuracy < 0.75


@pytest.mark.parametrize("optimizer", ["sam", "lbfgs", "adahessian", "schedulefreesgd"])
def test_what_cannot_step_on_weights_that_the_net_does_not_see_is_refused(optimizer):
    part = f"'dynamic_network_surgery' steps on weights that the net does not see, which '{optimizer}' does not allow"
    with pytest.raises(UserError, match=part):
        Recipe(optimizer, pruning="dynamic_network_surgery").validate()


@pytest.mark.parametrize("regularizer", ["max_norm", "sam"])
def test_so_are_regularizers(regularizer):
    with pytest.raises(UserError, match=f"pruning: .* which '{regularizer}' does not allow"):
        Recipe(pruning="dynamic_network_surgery", regularizers=[regularizer]).validate()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"end": 0.1}, "pruning.end: surgery ends at 0.1"),
        ({"margin": 1.0}, "pruning.margin: a share lies"),
        ({"gamma": -1.0}, "pruning.gamma: the probability falls"),
    ],
)
def test_numbers_out_of_range(arguments, part):
    with pytest.raises(UserError, match=part):
        Recipe(pruning={"name": "dynamic_network_surgery", **arguments}).validate()
