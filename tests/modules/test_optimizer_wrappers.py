"""SAM and Lookahead as regularizers, against their published update rules on the same gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from users_project import UsersData, UsersModule, make_trainer

from trainoff.errors import UserError
from trainoff.modules import Recipe
from trainoff.modules.regularizers import SAM


def gradient(net, data):
    inputs, targets = data.train_set.tensors
    return torch.autograd.grad(net.loss(net.net(inputs), targets), list(net.parameters()))


def trained(recipe, epochs):
    module = UsersModule()
    start = copy.deepcopy(module)
    make_trainer(max_epochs=epochs).fit(recipe.apply(module), datamodule=UsersData(batch_size=96))
    return start, module


def test_sam_takes_the_gradient_uphill_and_steps_from_where_it_was(flat):
    recipe = Recipe({"name": "sgd", "lr": 0.3}, regularizers=[{"name": "sam", "rho": 0.2}])
    net, module = trained(recipe, 3)
    for _ in range(3):
        first = gradient(net, UsersData())
        norm = torch.cat([g.flatten() for g in first]).norm()
        uphill = copy.deepcopy(net)
        with torch.no_grad():
            for p, g in zip(uphill.parameters(), first, strict=True):
                p += 0.2 * g / norm
        second = gradient(uphill, UsersData())
        with torch.no_grad():
            for p, g in zip(net.parameters(), second, strict=True):
                p -= 0.3 * g
    torch.testing.assert_close(flat(module), flat(net), rtol=1e-5, atol=1e-6)


def test_lookahead_follows_every_k_steps(flat):
    recipe = Recipe({"name": "sgd", "lr": 0.3}, regularizers=[{"name": "lookahead", "k": 2, "alpha": 0.25}])
    net, module = trained(recipe, 5)
    slow = [p.detach().clone() for p in net.parameters()]
    for step in range(1, 6):
        gradients = gradient(net, UsersData())
        with torch.no_grad():
            for p, g in zip(net.parameters(), gradients, strict=True):
                p -= 0.3 * g
            if step % 2 == 0:
                for p, s in zip(net.parameters(), slow, strict=True):
                    s += 0.25 * (p - s)
                    p.copy_(s)
    torch.testing.assert_close(flat(module), flat(net), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"optimizer": "sgd", "regularizers": ["sam", "lookahead"]}, "sam and lookahead would both wrap"),
        ({"optimizer": "lbfgs", "regularizers": ["sam"]}, "without needs of its own, which lbfgs is not"),
        ({"optimizer": "sgd", "regularizers": [{"name": "sam", "rho": 0}]}, "radius is above 0"),
    ],
)
def test_what_cannot_be_wrapped_is_refused(recipe, message):
    with pytest.raises(UserError, match=message):
        Recipe.of(recipe).validate()


def test_sam_and_accumulation_are_refused_at_the_start():
    recipe = Recipe("sgd", regularizers=["sam"], batch=96, microbatches=2)
    with pytest.raises(UserError, match="cannot accumulate"):
        make_trainer(**recipe.trainer_arguments()).fit(recipe.apply(UsersModule()), datamodule=UsersData())


def test_a_wrapper_without_a_recipe_says_how_it_acts():
    with pytest.raises(UserError, match=r"Recipe\('sgd', regularizers=\['sam'\]\)"):
        make_trainer(callbacks=[SAM()]).fit(UsersModule(), datamodule=UsersData())
