"""Regularizers that act elsewhere than on the gradient, each against another way of computing its effect."""

from __future__ import annotations

import contextlib

import lightning as L
import pytest
import torch
from torch import nn
from users_project import UsersData, UsersModule, make_trainer

from trainoff.errors import UserError
from trainoff.modules import REGULARIZERS, Classifier, Recipe
from trainoff.modules.nets.drop_path import DropPath
from trainoff.modules.regularizers import EarlyStopping, GradientClip


def test_decoupled_decay_under_sgd_is_its_formula(flat):
    """θ ← (1 − lr·λ)θ − lr·g, by hand."""
    module, data = UsersModule(), UsersData(batch_size=96)
    loss = module.loss(module.net(data.train_set.tensors[0]), data.train_set.tensors[1])
    gradients = torch.autograd.grad(loss, list(module.parameters()))
    expected = []
    for (name, parameter), gradient in zip(module.named_parameters(), gradients, strict=True):
        shrunk = parameter if name.endswith("bias") else parameter * (1 - 0.5 * 0.1)
        expected.append((shrunk - 0.5 * gradient).detach().flatten().double())
    Recipe({"name": "sgd", "lr": 0.5}, regularizers=[{"name": "weight_decay", "coefficient": 0.1}]).apply(module)
    make_trainer().fit(module, datamodule=data)
    torch.testing.assert_close(flat(module), torch.cat(expected), rtol=1e-5, atol=1e-6)


def test_a_patterns_decay_is_the_regularizers_under_an_optimizer_that_has_none(flat):
    """θ ← (1 − lr·λ)θ − lr·g with each pattern's own λ: 0 for a weight, 0.3 for a bias, by hand."""
    decays = {"net.0.weight": 0.0, "net.0.bias": 0.0, "net.2.weight": 0.1, "net.2.bias": 0.3}
    module, data = UsersModule(), UsersData(batch_size=96)
    with torch.no_grad():
        module.net[2].bias.fill_(2.0)
    loss = module.loss(module.net(data.train_set.tensors[0]), data.train_set.tensors[1])
    gradients = torch.autograd.grad(loss, list(module.parameters()))
    expected = [
        (parameter * (1 - 0.5 * decays[name]) - 0.5 * gradient).detach().flatten().double()
        for (name, parameter), gradient in zip(module.named_parameters(), gradients, strict=True)
    ]
    Recipe(
        {"name": "sgd", "lr": 0.5},
        regularizers=[{"name": "weight_decay", "coefficient": 0.1}],
        parameters=[{"match": "net.0.weight", "weight_decay": 0.0}, {"match": "net.2.bias", "weight_decay": 0.3}],
    ).apply(module)
    make_trainer().fit(module, datamodule=data)
    torch.testing.assert_close(flat(module), torch.cat(expected), rtol=1e-5, atol=1e-6)


def test_decoupled_decay_on_adam_is_adamw(flat):
    trained = []
    for optimizer, regularizers in (
        ({"name": "adam", "lr": 0.01}, [{"name": "weight_decay", "coefficient": 0.2}]),
        ({"name": "adamw", "lr": 0.01, "weight_decay": 0.2}, []),
    ):
        L.seed_everything(0, verbose=False)
        module = Recipe(optimizer, "cosine", regularizers).apply(UsersModule())
        make_trainer(max_epochs=3).fit(module, datamodule=UsersData())
        trained.append(flat(module))
    torch.testing.assert_close(trained[0], trained[1], rtol=1e-5, atol=1e-6)


def test_decay_under_lbfgs_is_refused():
    with pytest.raises(UserError, match="use l2"):
        make_trainer().fit(Recipe("lbfgs", regularizers=["weight_decay"]).apply(UsersModule()), UsersData())


def test_dropout_sets_the_nets_own_layers_during_fit():
    class Watch(UsersModule):
        def training_step(self, batch, batch_idx):
            assert self.net[1].p == 0.4
            assert (self.net[1](torch.ones(100_000)) == 0).float().mean().item() == pytest.approx(0.4, abs=0.01)
            return super().training_step(batch, batch_idx)

    module = Watch()
    module.net = nn.Sequential(nn.Linear(6, 64), nn.Dropout(0.1), nn.Linear(64, 3))
    make_trainer().fit(Recipe(regularizers=[{"name": "dropout", "p": 0.4}]).apply(module), datamodule=UsersData())
    assert module.net[1].p == 0.1


def test_dropout_without_a_place_is_refused():
    with pytest.raises(UserError, match="no dropout layer"):
        make_trainer().fit(Recipe(regularizers=["dropout"]).apply(UsersModule()), datamodule=UsersData())


def test_label_smoothing_is_torchs_in_training_and_absent_from_validation():
    class Watch(UsersModule):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            outputs = self.net(batch[0])
            logs = outputs.log_softmax(1)
            targets = nn.functional.one_hot(batch[1], 3) * 0.8 + 0.2 / 3
            torch.testing.assert_close(loss, -(targets * logs).sum(1).mean())
            return loss

        def validation_step(self, batch, batch_idx):
            torch.testing.assert_close(self.loss(self.net(batch[0]), batch[1]), self._plain(batch))
            super().validation_step(batch, batch_idx)

        def _plain(self, batch):
            return -self.net(batch[0]).log_softmax(1).gather(1, batch[1][:, None]).mean()

    recipe = Recipe("sgd", regularizers=[{"name": "label_smoothing", "epsilon": 0.2}])
    make_trainer().fit(recipe.apply(Watch()), datamodule=UsersData())


@pytest.mark.parametrize("breaks", [False, True])
def test_label_smoothing_leaves_the_users_own_as_it_was(breaks):
    """Also where a training step raises: the loss goes on being used."""
    seen = {"train": set(), "val": set()}

    class Watch(UsersModule):
        def training_step(self, batch, batch_idx):
            seen["train"].add(self.loss.label_smoothing)
            if breaks and batch_idx == 2:
                raise ZeroDivisionError
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch, batch_idx):
            seen["val"].add(self.loss.label_smoothing)
            super().validation_step(batch, batch_idx)

    module = Watch()
    module.loss = nn.CrossEntropyLoss(label_smoothing=0.05)
    Recipe("sgd", regularizers=[{"name": "label_smoothing", "epsilon": 0.2}]).apply(module)
    with pytest.raises(ZeroDivisionError) if breaks else contextlib.nullcontext():
        make_trainer().fit(module, datamodule=UsersData())
    assert module.loss.label_smoothing == 0.05
    assert seen == {"train": {0.2}, "val": {0.05}}


def test_label_smoothing_without_a_cross_entropy_is_refused():
    module = UsersModule()
    module.loss = nn.MultiMarginLoss()
    with pytest.raises(UserError, match=r"no nn\.CrossEntropyLoss"):
        make_trainer().fit(Recipe(regularizers=["label_smoothing"]).apply(module), datamodule=UsersData())


@pytest.mark.parametrize("by", ["norm", "value"])
def test_clipping_bounds_what_it_says(by):
    module = UsersModule()
    for parameter in module.parameters():
        parameter.grad = 10 * torch.randn_like(parameter)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    before = [parameter.grad.clone() for parameter in module.parameters()]
    GradientClip(0.5, by).on_before_optimizer_step(None, module, optimizer)
    after = [parameter.grad for parameter in module.parameters()]
    norm = torch.cat([g.flatten() for g in before]).norm()
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new, old.clamp(-0.5, 0.5) if by == "value" else old * 0.5 / (norm + 1e-6))


def test_early_stopping_stops_after_its_patience():
    class Flat(UsersModule):
        def validation_step(self, batch, batch_idx):
            self.log("val/loss", 1.0)

    trainer = make_trainer(max_epochs=50)
    module = Recipe("sgd", regularizers=[{"name": "early_stopping", "patience": 4}]).apply(Flat())
    trainer.fit(module, datamodule=UsersData())
    assert trainer.current_epoch == 5  # one that improves on nothing, then four that do not improve


@pytest.mark.parametrize(("logged", "monitor"), [("val_loss", "val/loss"), ("val/loss", "val_loss")])
def test_early_stopping_finds_either_spelling(logged, monitor):
    class Flat(UsersModule):
        def validation_step(self, batch, batch_idx):
            self.log(logged, 1.0)

    choice = {"name": "early_stopping", "monitor": monitor, "patience": 2}
    trainer = make_trainer(max_epochs=50)
    trainer.fit(Recipe("sgd", regularizers=[choice]).apply(Flat()), datamodule=UsersData())
    assert trainer.current_epoch == 3


def test_early_stopping_waits_for_the_first_validation():
    """Every second epoch: one that improves on nothing, then two that do not improve."""

    class Flat(UsersModule):
        def validation_step(self, batch, batch_idx):
            self.log("val_loss", 1.0)

    trainer = make_trainer(max_epochs=50, check_val_every_n_epoch=2)
    recipe = Recipe("sgd", regularizers=[{"name": "early_stopping", "patience": 2}])
    trainer.fit(recipe.apply(Flat()), datamodule=UsersData())
    assert trainer.current_epoch == 6


def test_early_stopping_on_what_is_not_logged_says_what_is():
    recipe = Recipe("sgd", regularizers=[{"name": "early_stopping", "monitor": "val/lss"}])
    with pytest.raises(UserError, match=r"no 'val/lss' is logged; did you mean val_loss") as caught:
        make_trainer().fit(recipe.apply(UsersModule()), datamodule=UsersData())
    assert "\n" not in str(caught.value)


def test_early_stopping_is_confined_to_its_module():
    stopper = EarlyStopping(monitor="no such value")
    stopper.owner = "another module"
    make_trainer(max_epochs=2, callbacks=[stopper]).fit(UsersModule(), datamodule=UsersData())


@pytest.mark.parametrize("entry", list(REGULARIZERS), ids=lambda entry: entry.name)
def test_every_regularizer_trains_a_module_and_keeps_its_state_key(entry, tmp_path):
    net = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.0), DropPath(), nn.ReLU(), nn.Linear(8, 3))
    choice = {"name": entry.name} | ({"num_classes": 3} if entry.name in ("mixup", "cutmix") else {})
    if entry.name == "distillation":
        choice["teacher"] = str(tmp_path / "teacher.ckpt")
        teacher, trainer = Classifier("linear", Recipe("sgd"), input_shape=(6,), output_size=3), make_trainer()
        trainer.fit(teacher, datamodule=UsersData())
        trainer.save_checkpoint(choice["teacher"])
    module = Classifier(net, recipe=Recipe({"name": "sgd", "lr": 0.1}, regularizers=[choice], batch=16))
    keys = [callback.state_key for callback in module.recipe_callbacks]
    trainer = make_trainer(max_epochs=3)
    trainer.fit(module, datamodule=UsersData())
    assert trainer.callback_metrics["train/loss"].isfinite()
    assert keys == [callback.state_key for callback in module.recipe_callbacks]
    assert len(set(keys)) == len(keys)
    assert not any("object at" in key or "Module" in key for key in keys)
