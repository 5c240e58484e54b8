"""The penalty on the gradient with respect to the inputs, against autograd and closed forms."""

from __future__ import annotations

import copy

import lightning as L
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from users_project import UsersData, UsersModule, make_trainer, parameters_of

from trainoff.errors import UserError
from trainoff.modules import Recipe, Regressor
from trainoff.modules.regularizers.gradient_penalty import input_gradient_penalty


@given(samples=st.integers(1, 6), coefficient=st.floats(0, 10), seed=st.integers(0, 999))
@settings(deadline=None)
def test_of_a_bilinear_discriminator_it_is_its_closed_form(samples, coefficient, seed):
    """f(x) = xᵀAx: ∇f = (A + Aᵀ)x. Its derivative with respect to A too: what a discriminator learns from."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    inputs = torch.randn(samples, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    outputs = torch.einsum("ni,ij,nj->n", inputs, matrix, inputs)
    penalty = input_gradient_penalty(outputs, inputs, coefficient)
    x = inputs.detach()
    slopes = x @ (matrix + matrix.T)
    expected = coefficient / 2 * (slopes**2).sum(1).mean()
    torch.testing.assert_close(penalty, expected)
    torch.testing.assert_close(
        torch.autograd.grad(penalty, matrix)[0], torch.autograd.grad(expected, matrix)[0], rtol=1e-9, atol=1e-9
    )


def one_by_one(module, inputs, targets, coefficient, loss_of):
    """Loss and penalty, each sample's gradient by an autograd call of its own."""
    total = loss_of(module.net(inputs), targets)
    norms = []
    for sample, target in zip(inputs, targets, strict=True):
        leaf = sample[None].clone().requires_grad_()
        (slope,) = torch.autograd.grad(loss_of(module.net(leaf), target[None]), leaf, create_graph=True)
        norms.append((slope**2).sum())
    return total + coefficient / 2 * torch.stack(norms).mean()


@pytest.mark.parametrize("name", ["gradient_penalty", "r1"])
@pytest.mark.parametrize("microbatches", [1, 3])
def test_a_step_is_a_step_on_the_penalised_loss(name, microbatches):
    module, data = UsersModule(), UsersData()
    start = copy.deepcopy(module)
    loss = one_by_one(start, *data.train_set.tensors, 2.0, F.cross_entropy)
    gradients = torch.autograd.grad(loss, list(start.parameters()))
    expected = torch.cat([(p - 0.5 * g).flatten() for p, g in zip(start.parameters(), gradients, strict=True)])
    recipe = Recipe(
        {"name": "sgd", "lr": 0.5},
        regularizers=[{"name": name, "coefficient": 2.0}],
        batch=96,
        microbatches=microbatches,
    )
    make_trainer(**recipe.trainer_arguments()).fit(recipe.apply(module), datamodule=data)
    torch.testing.assert_close(parameters_of(module), expected.detach().double(), rtol=0, atol=1e-6)
    assert "training_step" not in vars(module)


def test_on_a_regression_it_is_ridge_like():
    """(wx − y)²: ∇ₓ = 2(wx − y)w, so that the penalty is 2γ(wx − y)²‖w‖²; one step by autograd of that."""
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(40, 3, generator=generator), torch.randn(40, 1, generator=generator)
    recipe = Recipe({"name": "sgd", "lr": 0.1}, regularizers=[{"name": "gradient_penalty", "coefficient": 0.5}])
    module = Regressor("linear", recipe, input_shape=(3,), output_size=1)
    weight, bias = (parameter.detach().clone().requires_grad_() for parameter in module.parameters())
    squares = (inputs @ weight.T + bias - targets).square()
    loss = squares.mean() + 0.5 * 2 * (squares.mean() * weight.square().sum())
    slopes = torch.autograd.grad(loss, [weight, bias])
    make_trainer().fit(module, DataLoader(TensorDataset(inputs, targets), batch_size=40))
    for parameter, before, slope in zip(module.parameters(), (weight, bias), slopes, strict=True):
        torch.testing.assert_close(parameter, before - 0.1 * slope, rtol=1e-5, atol=1e-6)


def test_under_sam_it_acts_at_both_evaluations():
    module, data = UsersModule(), UsersData()
    net = copy.deepcopy(module)
    recipe = Recipe(
        {"name": "sgd", "lr": 0.3}, regularizers=[{"name": "gradient_penalty", "coefficient": 1.0}, "sam"], batch=96
    )
    make_trainer().fit(recipe.apply(module), datamodule=data)

    def slopes(at):
        return torch.autograd.grad(
            one_by_one(at, *data.train_set.tensors, 1.0, F.cross_entropy), list(at.parameters())
        )

    first = slopes(net)
    norm = torch.cat([g.flatten() for g in first]).norm()
    uphill = copy.deepcopy(net)
    with torch.no_grad():
        for p, g in zip(uphill.parameters(), first, strict=True):
            p += 0.05 * g / norm
    expected = torch.cat([(p - 0.3 * g).flatten() for p, g in zip(net.parameters(), slopes(uphill), strict=True)])
    torch.testing.assert_close(parameters_of(module), expected.detach().double(), rtol=0, atol=1e-6)


def test_it_sees_the_batch_that_mixup_has_made():
    """And a step that the user has put on the instance is called, and is there afterwards."""
    seen = []
    module = UsersModule()

    def own(batch, batch_idx):
        inputs, targets = batch
        seen.append((inputs.requires_grad, targets.is_floating_point()))
        return {"loss": module.loss(module.net(inputs), targets)}

    module.training_step = own
    recipe = Recipe("sgd", regularizers=["gradient_penalty", {"name": "mixup", "num_classes": 3}])
    make_trainer().fit(recipe.apply(module), datamodule=UsersData())
    assert seen == [(True, True)] * 6
    assert module.training_step is own


def test_the_input_gradient_of_a_trained_net_is_smaller():
    norms = []
    for regularizers in ([], [{"name": "gradient_penalty", "coefficient": 1.0}]):
        L.seed_everything(0, verbose=False)
        module = Recipe({"name": "sgd", "lr": 0.5}, regularizers=regularizers).apply(UsersModule())
        make_trainer(max_epochs=20).fit(module, datamodule=UsersData())
        inputs, targets = UsersData().train_set.tensors
        inputs.requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(module.net(inputs), targets, reduction="sum"), inputs)
        norms.append(slope.square().sum(1).mean().item())
    assert norms[1] < 0.5 * norms[0]


def test_what_cannot_be_penalised_is_refused():
    with pytest.raises(UserError, match="coefficient is at least 0"):
        Recipe(regularizers=[{"name": "r1", "coefficient": -1}]).validate()
    module = UsersModule()
    module.net = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(6, 3))
    tokens = TensorDataset(torch.zeros(8, 2, dtype=torch.long), torch.zeros(8, dtype=torch.long))
    with pytest.raises(UserError, match="the inputs are whole numbers"):
        make_trainer().fit(Recipe("sgd", regularizers=["r1"]).apply(module), DataLoader(tokens))
    assert "training_step" not in vars(module)
