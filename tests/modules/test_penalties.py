"""Penalties' gradients against autograd of the penalised loss, in the situations in which they are used."""

from __future__ import annotations

import copy

import lightning as L
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import nn
from users_project import UsersData, UsersModule, make_trainer

from trainoff.errors import UserError
from trainoff.modules import Recipe
from trainoff.modules.optimizer_building import build_optimizer
from trainoff.modules.regularizers import L1, L2, Lp


@given(
    p=st.floats(1, 4),
    coefficient=st.floats(0, 2),
    shapes=st.lists(st.lists(st.integers(1, 4), min_size=0, max_size=3), min_size=1, max_size=4),
    seed=st.integers(0, 10_000),
)
@settings(deadline=None)
def test_gradient_equals_autograds(p, coefficient, shapes, seed):
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]
    penalty = coefficient * sum((weight.abs() ** p).sum() for weight in weights)
    expected = torch.autograd.grad(penalty, weights)
    gradients = [torch.zeros_like(weight) for weight in weights]
    Lp(coefficient, p).add_gradient([w.detach() for w in weights], gradients)
    for ours, autograds in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, autograds, rtol=1e-9, atol=1e-9)


def penalised_step(module, data, penalty, lr, clip=None):
    """One full-batch SGD step on loss + penalty, by autograd alone."""
    inputs, targets = data.train_set.tensors
    loss = module.loss(module.net(inputs), targets) + sum(penalty(p) for p in module.parameters())
    gradients = torch.autograd.grad(loss, list(module.parameters()))
    norm = torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients]))
    scale = 1.0 if clip is None else min(1.0, clip / (norm.item() + 1e-6))
    return torch.cat([(p - lr * scale * g).flatten() for p, g in zip(module.parameters(), gradients, strict=True)])


PENALTIES = {
    "l1": (lambda p: 0.01 * p.abs().sum(), {"name": "l1", "coefficient": 0.01}),
    "l2": (lambda p: 0.01 * (p**2).sum(), {"name": "l2", "coefficient": 0.01}),
    "lp": (lambda p: 0.01 * (p.abs() ** 3).sum(), {"name": "lp", "coefficient": 0.01, "p": 3}),
    "elastic_net": (
        lambda p: 0.01 * (0.3 * p.abs().sum() + 0.7 * (p**2).sum()),
        {"name": "elastic_net", "coefficient": 0.01, "ratio": 0.3},
    ),
}


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("microbatches", [1, 3])
@pytest.mark.parametrize("clip", [None, 0.05])
def test_a_step_in_a_trainer_is_a_step_on_the_penalised_loss(name, microbatches, clip, flat):
    penalty, choice = PENALTIES[name]
    module, data = UsersModule(), UsersData()
    expected = penalised_step(copy.deepcopy(module), data, penalty, 0.5, clip)
    regularizers = [choice, *([{"name": "gradient_clip", "maximum": clip}] if clip else [])]
    # The clipper is named first: order in the list must not matter.
    recipe = Recipe({"name": "sgd", "lr": 0.5}, regularizers=regularizers[::-1], batch=96, microbatches=microbatches)
    recipe.apply(module)
    make_trainer(**recipe.trainer_arguments()).fit(module, datamodule=data)
    torch.testing.assert_close(flat(module), expected.detach().double(), rtol=1e-5, atol=1e-6)


def test_l2_under_sgd_is_torchs_weight_decay_of_twice_the_coefficient(flat):
    ours, theirs = UsersModule(), UsersModule()
    theirs.load_state_dict(ours.state_dict())
    Recipe({"name": "sgd", "lr": 0.1}, regularizers=[{"name": "l2", "coefficient": 0.05}]).apply(ours)
    Recipe({"name": "sgd", "lr": 0.1, "weight_decay": 0.1}).apply(theirs)
    for module in (ours, theirs):
        L.seed_everything(0, verbose=False)
        make_trainer(max_epochs=3).fit(module, datamodule=UsersData())
    torch.testing.assert_close(flat(ours), flat(theirs), rtol=1e-5, atol=1e-7)


def test_penalty_is_right_under_bf16_mixed(flat):
    """The penalty acts on the float32 weights whatever the forward pass ran in."""
    lr, coefficient = 0.5, 0.01
    plain, penalised = UsersModule(), UsersModule()
    penalised.load_state_dict(plain.state_dict())
    start = flat(plain)
    for module, regularizers in ((plain, []), (penalised, [{"name": "l2", "coefficient": coefficient}])):
        recipe = Recipe({"name": "sgd", "lr": lr}, regularizers=regularizers, batch=96, precision="bf16-mixed")
        recipe.apply(module)
        make_trainer(**recipe.trainer_arguments()).fit(module, datamodule=UsersData())
    torch.testing.assert_close(flat(plain) - flat(penalised), lr * 2 * coefficient * start, rtol=1e-3, atol=1e-6)


class InOrder(UsersData):
    """The same order in every epoch."""

    def train_dataloader(self):
        return torch.utils.data.DataLoader(self.train_set, batch_size=self.batch_size)


@pytest.mark.parametrize("name", PENALTIES)
def test_bf16_mixed_accumulation_and_clipping_together(name, flat):
    """Three parts forwarded in bfloat16, by torch's autocast in a plain loop; penalty and clipping in float32."""
    penalty, choice = PENALTIES[name]
    module = UsersModule()
    plain = copy.deepcopy(module)
    parameters = list(plain.parameters())
    inputs, targets = InOrder().train_set.tensors
    totals = list(torch.autograd.grad(sum(penalty(p) for p in parameters), parameters))
    for part in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            loss = plain.loss(plain.net(inputs[32 * part :][:32]), targets[32 * part :][:32])
        for total, gradient in zip(totals, torch.autograd.grad(loss, parameters), strict=True):
            total.add_(gradient / 3)
    norm = torch.linalg.vector_norm(torch.stack([total.norm() for total in totals]))
    assert norm > 0.05
    expected = torch.cat([(p - 0.5 * 0.05 / norm * g).flatten() for p, g in zip(parameters, totals, strict=True)])
    regularizers = [choice, {"name": "gradient_clip", "maximum": 0.05}]
    recipe = Recipe(
        {"name": "sgd", "lr": 0.5}, regularizers=regularizers, batch=96, microbatches=3, precision="bf16-mixed"
    )
    make_trainer(**recipe.trainer_arguments()).fit(recipe.apply(module), datamodule=InOrder())
    torch.testing.assert_close(flat(module), expected.detach().double(), rtol=0, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="float16 needs an accelerator; Lightning refuses it on CPUs")
def test_16_mixed_penalty_reads_unscaled_gradients(flat):
    """With a fused optimizer Lightning leaves the gradients scaled when penalties and clipping read them."""
    lr, coefficient = 0.5, 0.01
    plain, penalised = UsersModule(), UsersModule()
    penalised.load_state_dict(plain.state_dict())
    start = flat(plain)
    for module, regularizers in ((plain, []), (penalised, [{"name": "l2", "coefficient": coefficient}])):
        recipe = Recipe({"name": "sgd", "lr": lr}, regularizers=regularizers, batch=96, precision="16-mixed")
        recipe.apply(module)
        make_trainer(accelerator="gpu", **recipe.trainer_arguments()).fit(module, datamodule=UsersData())
    assert not torch.equal(flat(plain), start), "the step was skipped, so nothing was tested"
    difference = flat(plain).cpu() - flat(penalised).cpu()
    torch.testing.assert_close(difference, lr * 2 * coefficient * start, rtol=1e-2, atol=1e-5)


def test_fused_forms_are_left_out_under_16_mixed():
    """The cause of scaled gradients: Lightning does not unscale for an optimizer that does so itself."""
    assert build_optimizer(Recipe("adam"), UsersModule(), "32-true").defaults["fused"]
    assert not build_optimizer(Recipe("adam"), UsersModule(), "16-mixed").defaults["fused"]


def scaled_trainer(**arguments):
    """Under a gradient scaler, which Lightning offers on accelerators only unless it is given one."""
    return make_trainer(plugins=[MixedPrecision("16-mixed", "cpu")], **arguments)


@pytest.mark.parametrize("optimizer", ["adamw", {"name": "muon", "auxiliary": {"name": "adamw", "fused": True}}])
@pytest.mark.parametrize("clipped_by", ["recipe", "trainer"])
def test_a_fused_form_that_was_asked_for_is_refused_under_16_mixed(optimizer, clipped_by):
    choice = {"name": optimizer, "fused": True} if isinstance(optimizer, str) else optimizer
    recipe = Recipe(choice, regularizers=["gradient_clip"] if clipped_by == "recipe" else [])
    module = UsersModule()
    module.net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    trainer = scaled_trainer(gradient_clip_val=1.0 if clipped_by == "trainer" else None)
    with pytest.raises(UserError, match="optimizer: a fused optimizer under 16-mixed gets scaled gradients") as caught:
        trainer.fit(recipe.apply(module), datamodule=UsersData())
    assert "\n" not in str(caught.value)


def test_clipping_under_16_mixed_reads_unscaled_gradients(flat):
    """A step with a bound that nothing reaches, and one bounded to 0.01: of scaled ones nothing would be left."""
    steps = {}
    for bound in (1e3, 0.01):
        L.seed_everything(1, verbose=False)
        module = UsersModule()
        start = flat(module)
        regularizers = [{"name": "gradient_clip", "maximum": bound}]
        Recipe({"name": "sgd", "lr": 0.5}, regularizers=regularizers, batch=96).apply(module)
        scaled_trainer().fit(module, datamodule=UsersData())
        steps[bound] = (flat(module) - start).norm().item()
    assert steps[1e3] > 0.05, "the step was skipped, so nothing was tested"
    assert steps[0.01] == pytest.approx(0.5 * 0.01, rel=1e-3)


def test_exclude_narrows_the_penalty():
    module = UsersModule()
    weights = {name: p.detach().clone() for name, p in module.named_parameters()}
    recipe = Recipe(
        {"name": "sgd", "lr": 1.0}, regularizers=[{"name": "l2", "coefficient": 0.1, "exclude": ["*.bias"]}]
    )
    recipe.apply(module)
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    penalty = module.recipe_callbacks[-1]
    penalty.on_before_optimizer_step(None, module, optimizer)
    for name, parameter in module.named_parameters():
        expected = torch.zeros_like(parameter) if name.endswith("bias") else 0.2 * weights[name]
        torch.testing.assert_close(parameter.grad, expected)


def test_only_the_optimizers_own_parameters_are_penalised():
    """A GAN's penalty on one net must not touch the other."""
    module = UsersModule()
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    first, second = module.net[0], module.net[2]
    L1(0.1).on_before_optimizer_step(None, module, torch.optim.SGD(first.parameters(), lr=1.0))
    assert all(parameter.grad.abs().sum() > 0 for parameter in first.parameters())
    assert all(parameter.grad.abs().sum() == 0 for parameter in second.parameters())


def test_free_standing_in_anyones_trainer(flat):
    """`Trainer(callbacks=[L2(...)])` on a module that knows no recipe."""
    module, data = UsersModule(), UsersData(batch_size=96)
    expected = penalised_step(copy.deepcopy(module), data, lambda p: 0.02 * (p**2).sum(), 1e-3)
    make_trainer(callbacks=[L2(0.02)]).fit(module, datamodule=data)
    torch.testing.assert_close(flat(module), expected.detach().double(), rtol=1e-6, atol=1e-7)
