"""Penalties on matrices against autograd of their definitions."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from users_project import UsersData, UsersModule, make_trainer

from trainoff.modules import Recipe
from trainoff.modules.regularizers import Orthogonal, SpectralNorm

SHAPES = st.lists(st.integers(1, 6), min_size=2, max_size=4)


def drawn(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(shape=SHAPES, seed=st.integers(0, 10_000))
@settings(deadline=None)
def test_the_orthogonal_penaltys_slope_is_autograds(shape, seed):
    matrix = drawn(shape, seed).flatten(1).requires_grad_()
    rows, columns = matrix.shape
    smaller = matrix @ matrix.T if rows <= columns else matrix.T @ matrix
    penalty = ((smaller - torch.eye(min(rows, columns), dtype=torch.float64)) ** 2).sum()
    (expected,) = torch.autograd.grad(penalty, matrix)
    torch.testing.assert_close(Orthogonal().slope(matrix.detach(), "w"), expected, rtol=1e-9, atol=1e-9)


@given(shape=SHAPES, seed=st.integers(0, 10_000))
@settings(deadline=None)
def test_the_spectral_penaltys_slope_is_autograds(shape, seed):
    matrix = drawn(shape, seed).flatten(1).requires_grad_()
    values = torch.linalg.svdvals(matrix)
    (expected,) = torch.autograd.grad(values[0] ** 2 / 2, matrix)
    ratio = float(values[1] / values[0]) if len(values) > 1 else 0.0
    if ratio > 0.95:  # the power method needs a gap
        return
    slope = SpectralNorm(iterations=500).slope(matrix.detach(), "w")
    torch.testing.assert_close(slope, expected, rtol=1e-6, atol=1e-8)


def test_one_iteration_a_step_follows_a_weight_that_moves_slowly():
    penalty, weight = SpectralNorm(), drawn((8, 5), 0)
    for step in range(200):
        slope = penalty.slope(weight + 1e-3 * step * drawn((8, 5), 1), "w")
    last = weight + 1e-3 * 199 * drawn((8, 5), 1)
    assert slope.norm().item() == pytest.approx(torch.linalg.svdvals(last)[0].item(), rel=1e-3)


def test_a_weight_of_zeros_does_not_end_the_power_method():
    penalty = SpectralNorm(iterations=50)
    assert not penalty.slope(torch.zeros(3, 4), "w").any()
    weight = torch.diag(torch.tensor([1.0, 3.0, 2.0]))
    weight = torch.cat([weight, torch.zeros(3, 1)], dim=1)
    assert penalty.slope(weight, "w").norm().item() == pytest.approx(3.0, rel=1e-4)


@pytest.mark.parametrize("microbatches", [1, 3])
@pytest.mark.parametrize("name", ["orthogonal", "spectral_norm"])
def test_a_step_in_a_trainer_is_a_step_on_the_penalised_loss(name, microbatches, flat):
    module, data = UsersModule(), UsersData()
    inputs, targets = data.train_set.tensors
    net = copy.deepcopy(module)
    loss = net.loss(net.net(inputs), targets)
    for weight in (net.net[0].weight, net.net[2].weight):
        if name == "spectral_norm":
            loss = loss + 0.1 / 2 * torch.linalg.svdvals(weight)[0] ** 2
        else:
            smaller = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
            loss = loss + 0.1 * ((smaller - torch.eye(len(smaller))) ** 2).sum()
    gradients = torch.autograd.grad(loss, list(net.parameters()))
    expected = torch.cat([(p - 0.5 * g).flatten() for p, g in zip(net.parameters(), gradients, strict=True)])
    choice = {"name": name, "coefficient": 0.1} | ({"iterations": 200} if name == "spectral_norm" else {})
    recipe = Recipe({"name": "sgd", "lr": 0.5}, regularizers=[choice], batch=96, microbatches=microbatches)
    recipe.apply(module)
    make_trainer(**recipe.trainer_arguments()).fit(module, datamodule=data)
    torch.testing.assert_close(flat(module), expected.detach().double(), rtol=1e-4, atol=1e-5)


def test_the_vectors_travel_in_checkpoints(tmp_path, flat):
    """A resumed training ends where an uninterrupted one does: the power method goes on."""
    recipe = Recipe({"name": "sgd", "lr": 0.1}, regularizers=[{"name": "spectral_norm", "coefficient": 0.5}])
    ends = []
    for stops in ((2, 4), (4,)):
        torch.manual_seed(0)
        module, path = recipe.apply(UsersModule()), None
        for epochs in stops:
            trainer = make_trainer(max_epochs=epochs)
            trainer.fit(module, datamodule=UsersData(batch_size=96), ckpt_path=path, weights_only=True)
            path = str(tmp_path / "last.ckpt")
            trainer.save_checkpoint(path)
        ends.append(flat(module))
    assert torch.equal(*ends)
