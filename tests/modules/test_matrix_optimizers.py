"""Muon's step against the singular value decomposition that Newton and Schulz's iteration stands for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainoff.modules import Recipe
from trainoff.modules.optimizer_building import build_optimizer


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3))


@pytest.mark.parametrize("name", ["muon", "po_muon"])
@pytest.mark.parametrize("steps", [1, 4])
def test_a_step_has_the_momentums_singular_vectors_and_singular_values_near_one(name, steps):
    """Jordan et al. 2024: W ← W − lr·s·UVᵀ for the momentum's USVᵀ, with values of 0.7 to 1.2 in place of ones."""
    made = net()
    optimizer = build_optimizer(Recipe({"name": name, "lr": 0.02, "momentum": 0.95, "weight_decay": 0.0}), made)
    weight = made[2].weight
    generator = torch.Generator().manual_seed(1)
    momentum = torch.zeros_like(weight)
    for _ in range(steps):
        before = weight.detach().clone()
        for parameter in made.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        gradient = weight.grad.clone()
        momentum = 0.95 * momentum + 0.05 * gradient  # the same direction as without the factor
        optimizer.step()
    direction = 0.05 * gradient + 0.95 * momentum  # Nesterov's
    left, _, right = torch.linalg.svd(direction, full_matrices=False)
    moved = left.T @ (before - weight.detach()) @ right.T / 0.02
    values = moved.diagonal()
    scale = values.mean()
    assert ((values / scale > 0.7) & (values / scale < 1.4)).all()
    off = moved - torch.diag(values)
    assert off.abs().max() < 0.05 * scale  # bfloat16's
    assert scale > 0.15
