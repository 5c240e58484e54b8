"""Elastic weight consolidation: its gradient, its Fisher information, and what it is for."""

from __future__ import annotations

import copy

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from users_project import UsersData, UsersModule, make_trainer, parameters_of

from trainoff.datamodules import Digits
from trainoff.errors import UserError
from trainoff.modules import Classifier, Recipe, Regressor
from trainoff.modules.regularizers import EWC


@given(
    coefficient=st.floats(0, 10),
    shapes=st.lists(st.lists(st.integers(1, 4), min_size=0, max_size=3), min_size=1, max_size=4),
    seed=st.integers(0, 10_000),
)
@settings(deadline=None)
def test_the_gradient_is_autograds_of_the_formula(coefficient, shapes, seed):
    generator = torch.Generator().manual_seed(seed)

    def numbers():
        return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]

    weights, anchors, importance = numbers(), numbers(), [n.square() for n in numbers()]
    leaves = [weight.clone().requires_grad_() for weight in weights]
    terms = zip(importance, leaves, anchors, strict=True)
    penalty = coefficient / 2 * sum((f * (theta - anchor) ** 2).sum() for f, theta, anchor in terms)
    expected = torch.autograd.grad(penalty, leaves)
    gradients = numbers()
    before = [gradient.clone() for gradient in gradients]
    EWC(coefficient).add_gradient(weights, anchors, importance, gradients)
    for after, start, autograds in zip(gradients, before, expected, strict=True):
        torch.testing.assert_close(after - start, autograds, rtol=1e-9, atol=1e-9)


def ewc_of(module):
    return next(callback for callback in module.recipe_callbacks if isinstance(callback, EWC))


def numbers_of(split):
    inputs, targets = split
    return inputs.flatten(1).double().numpy(), targets.numpy()


def test_fisher_of_a_logistic_regression_is_its_closed_form():
    """(1/n) Σ ((pᵢ − yᵢ)xᵢᵀ)², entry by entry, in NumPy; dropout, metrics and augmentation are out of it."""
    recipe = Recipe({"name": "sgd", "lr": 0.01}, regularizers=[{"name": "ewc", "samples": 10_000}, "mixup"], batch=100)
    module = Classifier("linear", recipe)
    data = Digits()
    make_trainer().fit(module, datamodule=data)
    kept = ewc_of(module)._next
    inputs, targets = numbers_of(data.split("train"))
    weight, bias = (parameter.detach().double().numpy() for parameter in module.parameters())
    logits = inputs @ weight.T + bias
    shares = np.exp(logits - logits.max(1, keepdims=True))
    errors = shares / shares.sum(1, keepdims=True) - np.eye(10)[targets]
    fisher = np.mean((errors[:, :, None] * inputs[:, None, :]) ** 2, axis=0), np.mean(errors**2, axis=0)
    for (name, parameter), expected in zip(module.named_parameters(), fisher, strict=True):
        np.testing.assert_allclose(kept["importance"][name].numpy(), expected, rtol=1e-4, atol=1e-9)
        assert torch.equal(kept["weights"][name], parameter)


def test_fisher_of_a_linear_regression_is_its_closed_form():
    """(1/n) Σ (2(ŷᵢ − yᵢ)xᵢ)² for the mean squared error, on samples that a batch size does not divide."""
    module = Regressor("linear", Recipe({"name": "sgd", "lr": 0.01}, regularizers=[{"name": "ewc", "samples": 70}]))
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(100, 5, generator=generator)
    targets = inputs.sum(1)
    module = Regressor("linear", module.recipe, input_shape=(5,), output_size=1)
    make_trainer().fit(module, DataLoader(TensorDataset(inputs, targets), batch_size=30))
    errors = module(inputs)[:, 0] - targets
    expected = ((2 * errors[:, None] * inputs)[:70] ** 2).mean(0, keepdim=True)
    kept = ewc_of(module)._next["importance"]
    torch.testing.assert_close(next(iter(kept.values())), expected.detach(), rtol=1e-4, atol=1e-7)


def test_neither_the_module_nor_the_random_state_notices():
    """Metrics that a training step updates, batch norm's statistics, mode, and what is drawn afterwards."""

    class Watched(UsersModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
            self.steps = 0

        def training_step(self, batch, batch_idx):
            self.steps += 1
            self.log("loss", 1.0)
            return {"loss": super().training_step(batch, batch_idx)}

    ended = []
    for regularizers in ([], ["ewc"]):
        L.seed_everything(1, verbose=False)
        module = Recipe("sgd", regularizers=regularizers).apply(Watched())
        make_trainer().fit(module, datamodule=UsersData())
        ended.append((module.steps, module.net[1].running_mean.clone(), torch.rand(3), parameters_of(module)))
        assert all(parameter.grad is None or parameter.grad.ndim for parameter in module.parameters())
    assert ended[0][0] == ended[1][0] == 6
    for plain, consolidated in zip(ended[0][1:], ended[1][1:], strict=True):
        assert torch.equal(plain, consolidated)


class Other(UsersData):
    """Another task on the same inputs, always in one order."""

    def __init__(self):
        super().__init__(batch_size=48)
        inputs, targets = self.train_set.tensors
        self.train_set = TensorDataset(inputs, targets.roll(1))

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size)


def test_the_second_fit_steps_on_the_penalised_loss():
    """One full-batch SGD step by autograd, from weights that are not the anchor."""
    choice = {"name": "ewc", "coefficient": 3.0, "samples": 96}
    module = Recipe({"name": "sgd", "lr": 0.5}, regularizers=[choice]).apply(UsersModule())
    make_trainer(max_epochs=2).fit(module, datamodule=UsersData())
    anchor, kept = copy.deepcopy(module), copy.deepcopy(ewc_of(module)._next["importance"])
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1)
    start, data = copy.deepcopy(module), Other()
    data.batch_size = 96
    inputs, targets = data.train_set.tensors
    pairs = zip(start.named_parameters(), anchor.parameters(), strict=True)
    penalty = sum((kept[name] * (theta - old.detach()) ** 2).sum() for (name, theta), old in pairs)
    loss = F.cross_entropy(start.net(inputs), targets) + 3.0 / 2 * penalty
    gradients = torch.autograd.grad(loss, list(start.parameters()))
    expected = torch.cat([(p - 0.5 * g).flatten() for p, g in zip(start.parameters(), gradients, strict=True)])
    make_trainer().fit(module, datamodule=data)
    torch.testing.assert_close(parameters_of(module), expected.detach().double(), rtol=0, atol=1e-6)


def test_a_third_fit_is_anchored_by_both_earlier_ones():
    """Online: F = γF₁ + F₂, θ* = θ₂."""
    choice = {"name": "ewc", "decay": 0.5, "coefficient": 0.0, "samples": 96}
    module = Recipe({"name": "sgd", "lr": 0.5}, regularizers=[choice]).apply(UsersModule())
    make_trainer().fit(module, datamodule=UsersData())
    first = copy.deepcopy(ewc_of(module)._next["importance"])
    make_trainer().fit(module, datamodule=Other())
    alone = Recipe({"name": "sgd", "lr": 0.0}, regularizers=[{"name": "ewc", "samples": 96}]).apply(UsersModule())
    alone.load_state_dict(module.state_dict())
    make_trainer().fit(alone, datamodule=Other())
    for name, both in ewc_of(module)._next["importance"].items():
        torch.testing.assert_close(both, 0.5 * first[name] + ewc_of(alone)._next["importance"][name])
        assert torch.equal(ewc_of(module)._next["weights"][name], dict(module.named_parameters())[name])


class Permuted(Digits):
    """Digits with their pixels in another order."""

    def split(self, name):
        inputs, targets = super().split(name)
        order = torch.randperm(64, generator=torch.Generator().manual_seed(3))
        return inputs.flatten(1)[:, order].reshape(inputs.shape), targets


def accuracy(module, data):
    trainer = make_trainer()
    trainer.validate(module, datamodule=data, verbose=False)
    return float(trainer.callback_metrics["val/accuracy"])


def two_tasks(regularizers):
    """Accuracies on digits after them, then on digits and on permuted digits after these."""
    L.seed_everything(0, verbose=False)
    recipe = Recipe({"name": "sgd", "lr": 0.1}, regularizers=regularizers, batch=64)
    module = Classifier({"name": "mlp", "hidden": [64]}, recipe)
    make_trainer(max_epochs=10).fit(module, datamodule=Digits())
    first = accuracy(module, Digits())
    make_trainer(max_epochs=10).fit(module, datamodule=Permuted())
    return first, accuracy(module, Digits()), accuracy(module, Permuted())


def test_digits_are_forgotten_less_while_permuted_digits_are_learned():
    plain = two_tasks([])
    consolidated = two_tasks([{"name": "ewc", "coefficient": 30.0}])
    assert plain[0] == consolidated[0]  # there is no penalty in the first fit
    forgotten = plain[0] - plain[1], consolidated[0] - consolidated[1]
    assert forgotten[1] < 0.5 * forgotten[0]
    assert consolidated[2] > 0.85


def test_a_checkpoint_anchors_another_process_and_a_resumed_fit_keeps_its_anchors(tmp_path):
    recipe = Recipe({"name": "sgd", "lr": 0.5}, regularizers=[{"name": "ewc", "coefficient": 5.0, "samples": 50}])
    module = recipe.apply(UsersModule())
    trainer = make_trainer()
    trainer.fit(module, datamodule=UsersData())
    trainer.save_checkpoint(tmp_path / "first.ckpt")

    choice = {**recipe.regularizers[0], "checkpoint": str(tmp_path / "first.ckpt")}
    there = Recipe({"name": "sgd", "lr": 0.5}, regularizers=[choice]).apply(UsersModule())
    there.load_state_dict(torch.load(tmp_path / "first.ckpt", weights_only=True)["state_dict"])
    halves = copy.deepcopy(there)
    for each in (module, there):
        make_trainer(max_epochs=4).fit(each, datamodule=Other())
    assert torch.equal(parameters_of(there), parameters_of(module))

    half = make_trainer(max_epochs=2)
    half.fit(halves, datamodule=Other())
    half.save_checkpoint(tmp_path / "half.ckpt")
    resumed = Recipe({"name": "sgd", "lr": 0.5}, regularizers=[choice]).apply(UsersModule())
    make_trainer(max_epochs=4).fit(resumed, datamodule=Other(), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    assert torch.equal(parameters_of(resumed), parameters_of(module))


def test_it_works_in_anyones_trainer():
    module, consolidation = UsersModule(), EWC(samples=32)
    make_trainer(callbacks=[consolidation]).fit(module, datamodule=UsersData())
    assert set(consolidation._next["importance"]) == {name for name, _ in module.named_parameters()}
    make_trainer(callbacks=[consolidation]).fit(module, datamodule=Other())
    assert consolidation._present


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"coefficient": -1.0}, "coefficient is at least 0"),
        ({"samples": 0}, "at least one sample"),
        ({"decay": 2.0}, r"lies in \[0, 1\], not 2.0"),
    ],
)
def test_values_out_of_range_are_refused(choice, message):
    with pytest.raises(UserError, match=message):
        Recipe(regularizers=[{"name": "ewc", **choice}]).validate()


def test_checkpoints_that_do_not_serve_are_refused(tmp_path):
    def fit(path, module):
        recipe = Recipe("sgd", regularizers=[{"name": "ewc", "checkpoint": str(path)}])
        make_trainer().fit(recipe.apply(module), datamodule=UsersData())

    with pytest.raises(UserError, match="there is no file"):
        fit(tmp_path / "nothing.ckpt", UsersModule())
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    with pytest.raises(UserError, match="no checkpoint that loads"):
        fit(tmp_path / "text.ckpt", UsersModule())
    for name, regularizers in (("plain", []), ("narrow", ["ewc"])):
        trainer = make_trainer()
        trainer.fit(Recipe("sgd", regularizers=regularizers).apply(UsersModule(hidden=4)), datamodule=UsersData())
        trainer.save_checkpoint(tmp_path / f"{name}.ckpt")
    with pytest.raises(UserError, match="holds no finished fit with ewc"):
        fit(tmp_path / "plain.ckpt", UsersModule())
    with pytest.raises(UserError, match=r"'net.0.weight' is \(16, 6\), in the earlier fit it was \(4, 6\)") as caught:
        fit(tmp_path / "narrow.ckpt", UsersModule())
    assert "\n" not in str(caught.value)
