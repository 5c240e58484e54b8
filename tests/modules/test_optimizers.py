"""Every listed optimizer trains through a recipe in a Trainer, or says in one line why it cannot."""

from __future__ import annotations

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn
from users_project import make_trainer

from trainoff.datamodules import Digits
from trainoff.errors import UserError
from trainoff.modules import OPTIMIZERS, Classifier, Recipe
from trainoff.modules.optimizer_building import build_optimizer

OURS = [entry for entry in OPTIMIZERS if not entry.target.startswith("pytorch_optimizer")]
SUPPORTED = [entry for entry in OPTIMIZERS if not entry.unsupported]
UNSUPPORTED = [entry for entry in OPTIMIZERS if entry.unsupported]
# A rate that shows progress within a few epochs, where the library's own default is for long trainings.
RATES = {
    "adadelta": 1.0,
    "adagrad": 0.05,
    "asgd": 0.1,
    "sgd": 0.1,
    "kahan_sgd": 0.1,
    "adafactor": 0.05,
    "radam": 0.01,
    "adamod": 0.05,
}
RATES |= {"dadaptlion": 0.15, "kate": 1e-4}  # at the library's own rates both overshoot on this task
# Both take each step from all samples.
FULL_BATCH = ("lbfgs", "rprop")


class Losses(L.Callback):
    """The mean training loss of each epoch."""

    def __init__(self):
        self.values = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.values.append(pl_module.train_loss.mean(trainer))


def first_and_last_loss(entry, epochs):
    L.seed_everything(0, verbose=False)
    optimizer = {"name": entry.name}
    if entry.name in RATES:
        optimizer["lr"] = RATES[entry.name]
    batch = "full" if entry.name in FULL_BATCH else 64
    module = Classifier(
        {"name": "mlp", "hidden": [32, 32] if "matrices" in entry.needs else [32]},
        recipe=Recipe(optimizer, batch=batch),
    )
    losses = Losses()
    make_trainer(max_epochs=20 if batch == "full" else epochs, callbacks=[losses]).fit(module, datamodule=Digits())
    return float(losses.values[0]), float(losses.values[-1])


@pytest.mark.parametrize("entry", [e for e in OURS if e in SUPPORTED], ids=lambda entry: entry.name)
def test_torchs_optimizers_and_our_own_train(entry):
    first, last = first_and_last_loss(entry, epochs=4)
    assert last < 0.8 * min(first, np.log(10))


@pytest.mark.slow
@pytest.mark.parametrize("entry", [e for e in SUPPORTED if e not in OURS], ids=lambda entry: entry.name)
def test_the_librarys_optimizers_train(entry):
    first, last = first_and_last_loss(entry, epochs=12)
    assert last < 0.9 * min(first, np.log(10))


@pytest.mark.parametrize("entry", UNSUPPORTED, ids=lambda entry: entry.name)
def test_the_others_say_why_not(entry):
    with pytest.raises(UserError, match=f"optimizer: '{entry.name}' ") as caught:
        Recipe(entry.name).validate()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) > len(f"optimizer: '{entry.name}' ") + 10


def test_there_are_130_names_or_more():
    assert len(OPTIMIZERS) >= 130
    assert len(SUPPORTED) >= 130


def test_every_optimizer_of_torch_is_there():
    classes = {
        name
        for name, thing in vars(torch.optim).items()
        if isinstance(thing, type) and issubclass(thing, torch.optim.Optimizer) and thing is not torch.optim.Optimizer
    }
    assert {entry.target.removeprefix("torch.optim:") for entry in OURS} == {
        *classes,
        "trainoff.modules.kahan_sgd:KahanSGD",
    }


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "adagrad"])
def test_fused_forms_are_taken_and_agree_with_the_plain_ones(name):
    weights = []
    for fused in ({}, {"fused": False}):
        torch.manual_seed(0)
        net = nn.Linear(20, 20)
        optimizer = build_optimizer(Recipe({"name": name, "lr": 0.01, **fused}), net)
        assert bool(optimizer.defaults.get("fused")) == (not fused)
        for _ in range(20):
            optimizer.zero_grad()
            (net(torch.ones(4, 20)) ** 2).mean().backward()
            optimizer.step()
        weights.append(net.weight.detach().clone())
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)


def test_a_class_path_is_an_optimizer_like_any_other():
    recipe = Recipe({"class_path": "torch.optim.NAdam", "init_args": {"lr": 0.02}})
    optimizer = build_optimizer(recipe, nn.Linear(2, 2))
    assert type(optimizer) is torch.optim.NAdam
    assert optimizer.defaults["lr"] == 0.02


def test_bfloat16_on_a_cpu_is_not_fused():
    """torch's fused SGD is wrong there."""
    assert build_optimizer(Recipe("sgd"), nn.Linear(2, 2)).defaults["fused"]
    assert not build_optimizer(Recipe("sgd"), nn.Linear(2, 2).bfloat16()).defaults["fused"]
