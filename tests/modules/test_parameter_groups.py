"""Who gets which rate and decay."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from users_project import UsersModule

from trainoff.errors import UserError
from trainoff.modules import Recipe
from trainoff.modules.optimizer_building import build_optimizer
from trainoff.modules.parameter_groups import Rates, parameter_groups


class Mixed(nn.Module):
    """One of each: embedding, linear, convolution, norms."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.linear = nn.Linear(4, 4)
        self.convolution = nn.Conv1d(4, 4, 3)
        self.norm = nn.LayerNorm(4)
        self.batch_norm = nn.BatchNorm1d(4)


def decays(module, optimizer):
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}


def test_decoupled_decay_spares_biases_norms_and_embeddings():
    module = Mixed()
    found = decays(module, build_optimizer(Recipe({"name": "adamw", "weight_decay": 0.1}), module))
    assert {name for name, decay in found.items() if decay == 0.1} == {"linear.weight", "convolution.weight"}
    assert set(found.values()) == {0.0, 0.1}
    assert len(found) == len(list(module.parameters()))


def test_coupled_decay_covers_all_as_torchs_does():
    module = Mixed()
    assert set(decays(module, build_optimizer(Recipe({"name": "sgd", "weight_decay": 0.1}), module)).values()) == {0.1}


def test_the_regularizer_hands_its_coefficient_to_adamw():
    module = Mixed()
    recipe = Recipe({"name": "adamw"}, regularizers=[{"name": "weight_decay", "coefficient": 0.3}])
    assert set(decays(module, build_optimizer(recipe, module)).values()) == {0.0, 0.3}
    with pytest.raises(UserError, match="given twice"):
        build_optimizer(Recipe({"name": "adamw", "weight_decay": 0.1}, regularizers=["weight_decay"]), module)


@pytest.mark.parametrize(
    ("optimizer", "regularizers", "others"),
    [
        ({"name": "adamw", "weight_decay": 0.1}, [], {"convolution.weight"}),
        ("adamw", [{"name": "weight_decay", "coefficient": 0.1}], {"convolution.weight"}),
        # torch's coupled decay spares nobody.
        ({"name": "sgd", "weight_decay": 0.1}, [], {"convolution.weight", "embedding.weight", "batch_norm.weight"}),
    ],
)
def test_a_patterns_decay_wins_over_the_optimizers_and_over_being_spared(optimizer, regularizers, others):
    patterns = [
        {"match": "norm.bias", "weight_decay": 0.3},
        {"match": "*bias", "weight_decay": 0.0},
        {"match": "linear.weight", "weight_decay": 0},
        {"match": "norm.*", "lr": 0.5, "weight_decay": 0.2},
    ]
    module = Mixed()
    found = decays(module, build_optimizer(Recipe(optimizer, regularizers=regularizers, parameters=patterns), module))
    chosen = {"norm.bias": 0.3, "norm.weight": 0.2} | dict.fromkeys(others, 0.1)
    assert found == {name: chosen.get(name, 0.0) for name, _ in module.named_parameters()}


def test_patterns_scale_replace_and_freeze():
    module = UsersModule()
    patterns = [
        {"match": "net.0.weight", "freeze": True},
        {"match": "net.0.*", "lr_scale": 0.1},
        {"match": "*.bias", "lr": 0.7},
    ]
    recipe = Recipe({"name": "sgd", "lr": 0.5}, parameters=patterns)
    optimizer = build_optimizer(recipe, recipe.apply(module))
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    rates = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates == pytest.approx({"net.0.bias": 0.05, "net.2.bias": 0.7, "net.2.weight": 0.5})
    assert not module.net[0].weight.requires_grad


@pytest.mark.parametrize(
    ("patterns", "part"),
    [
        ([{"match": "backbone.*", "lr": 0.1}], "matches no parameter"),
        ([{"match": "*", "lr": 0.1}, {"match": "net.*", "lr": 0.2}], "matches no parameter"),
        ([{"lr": 0.1}], "has no match"),
        ([{"match": "*", "learning_rate": 0.1}], "no 'learning_rate'"),
        ([{"match": "*", "lr": 0.1, "lr_scale": 2}], "both"),
        ([{"match": "*", "freeze": True}], "no trainable parameter"),
    ],
)
def test_mistakes(patterns, part):
    recipe = Recipe({"name": "sgd", "lr": 0.1}, parameters=patterns)
    with pytest.raises(UserError, match=part):
        build_optimizer(recipe, recipe.apply(UsersModule()))


def test_every_trainable_parameter_is_in_exactly_one_group():
    module = Mixed()
    groups = parameter_groups(module, [{"match": "*norm*", "lr": 0.1}], Rates(0.5, 0.2))
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in module.parameters())


def test_loshchilov_and_hutters_difference():
    """w = [1, 10], no gradient, lr = decay = 0.1, one step: proportional shrinkage against an equal one."""
    weights = {}
    for name, recipe in {
        "decoupled": Recipe({"name": "adamw", "lr": 0.1, "weight_decay": 0.1}),
        "l2": Recipe({"name": "adam", "lr": 0.1, "weight_decay": 0.1}),
    }.items():
        module = nn.Linear(2, 1, bias=False)
        module.weight.data = torch.tensor([[1.0, 10.0]])
        module.weight.grad = torch.zeros(1, 2)
        build_optimizer(recipe, module).step()
        weights[name] = module.weight.detach().flatten()
    torch.testing.assert_close(weights["decoupled"], torch.tensor([0.99, 9.9]))
    torch.testing.assert_close(weights["l2"], torch.tensor([0.9, 9.9]), rtol=1e-5, atol=1e-6)
