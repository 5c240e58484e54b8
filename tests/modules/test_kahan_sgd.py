"""SGD on bfloat16 weights that loses no update: against float32, float64, and torch's own."""

from __future__ import annotations

import copy

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from users_project import UsersData, UsersModule, make_trainer, parameters_of

from trainoff.errors import UserError
from trainoff.modules import Recipe
from trainoff.modules.kahan_sgd import KahanSGD, round_at_random

TARGET = torch.linspace(1.2, 1.9, 64, dtype=torch.float64)
CURVATURE = torch.logspace(-1, 0, 64, dtype=torch.float64)


def descent(dtype, steps=3000, **arguments):
    """Gradient descent on ½ Σ hᵢ(wᵢ − w*ᵢ)² from 1, whose updates at lr 0.01 are below half an ulp of a bfloat16."""
    weight = torch.nn.Parameter(torch.ones(64, dtype=dtype))
    optimizer = KahanSGD([weight], lr=0.01, **arguments)
    for _ in range(steps):
        weight.grad = (CURVATURE * (weight.detach().double() - TARGET)).to(dtype)
        optimizer.step()
    return weight.detach().double()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_kahan_sums_reach_the_float32_solution_where_nearest_stalls(momentum):
    ulp = 2.0**-7  # of bfloat16, from 1 to 2
    reference = descent(torch.float32, momentum=momentum)
    assert (descent(torch.bfloat16, momentum=momentum) - reference).abs().max() < 1.5 * ulp
    if momentum == 0:
        plain = descent(torch.bfloat16, rounding="nearest")
        stuck = ulp / 2 > 0.01 * CURVATURE * (TARGET - 1)
        assert stuck.sum() > 40
        assert torch.equal(plain[stuck], torch.ones_like(plain[stuck]))
        assert (plain - reference).abs().max() > 30 * ulp


def test_random_rounding_follows_float32_in_the_mean():
    """Over 64 weights that have each their own noise: no drift."""
    reference = descent(torch.float32)
    error = (descent(torch.bfloat16, rounding="stochastic") - reference).numpy()
    assert abs(error.mean()) < 4 * error.std() / 8
    assert abs(error).max() < 0.15


@given(
    weight=st.floats(-100, 100, width=32).filter(lambda x: abs(x) > 1e-3),
    share=st.floats(-0.02, 0.02),
    seed=st.integers(0, 10_000),
)
@settings(deadline=None, max_examples=60)
def test_one_randomly_rounded_step_is_unbiased(weight, share, seed):
    """Over 20,000 draws its mean is the float64 update within 4 standard errors, between the two neighbours."""
    start = torch.full((20_000,), weight, dtype=torch.bfloat16)
    parameter = torch.nn.Parameter(start.clone())
    parameter.grad = torch.full_like(start, share * weight)
    exact = float(start[0]) - 0.5 * float(parameter.grad[0])  # float64
    KahanSGD([parameter], lr=0.5, rounding="stochastic", seed=seed).step()
    drawn = parameter.detach().double().numpy()
    neighbours = np.unique(drawn)
    assert len(neighbours) <= 2
    # The float32 sum before it is rounded is itself within 2⁻²⁴.
    slack = abs(exact) * 2.0**-23
    assert (abs(neighbours - exact) <= 2.0**-7 * abs(exact) + slack).all()
    assert drawn.mean() == pytest.approx(exact, abs=4 * max(drawn.std(), 2.0**-9 * abs(exact)) / 20_000**0.5 + slack)


def test_numbers_that_bfloat16_has_are_left_as_they_are():
    numbers = torch.randn(1000, generator=torch.Generator().manual_seed(0)).bfloat16()
    rounded = round_at_random(numbers.float(), torch.bfloat16, torch.Generator().manual_seed(1))
    assert torch.equal(rounded, numbers)


@pytest.mark.parametrize("rounding", ["kahan", "stochastic", "nearest"])
@given(
    momentum=st.sampled_from([0.0, 0.5, 0.9]),
    nesterov=st.booleans(),
    weight_decay=st.floats(0, 0.1),
    lr=st.floats(0, 0.3),
)
@settings(deadline=None, max_examples=20)
def test_in_wider_types_it_is_torchs_sgd(rounding, momentum, nesterov, weight_decay, lr):
    arguments = {"lr": lr, "momentum": momentum, "nesterov": nesterov and momentum > 0, "weight_decay": weight_decay}
    paths = []
    for make in (torch.optim.SGD, lambda p, **kw: KahanSGD(p, rounding=rounding, **kw)):
        weight = torch.nn.Parameter(TARGET.clone())
        optimizer = make([weight], **arguments)
        for _ in range(10):
            weight.grad = weight.detach().sin()
            optimizer.step()
        paths.append(weight.detach())
    torch.testing.assert_close(*paths, rtol=1e-12, atol=1e-12)


def test_replicas_round_alike_and_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    ended = [descent(torch.bfloat16, steps=50, rounding="stochastic") for _ in range(2)]
    assert torch.equal(*ended)
    assert not torch.equal(ended[0], descent(torch.bfloat16, steps=50, rounding="stochastic", seed=1))
    assert torch.equal(state, torch.get_rng_state())


class Ordered(UsersData):
    """The same order in every epoch."""

    def train_dataloader(self):
        return torch.utils.data.DataLoader(self.train_set, batch_size=self.batch_size)


@pytest.mark.parametrize("rounding", ["kahan", "stochastic"])
def test_under_bf16_true_a_resumed_training_ends_where_an_uninterrupted_one_does(rounding, tmp_path):
    choice = {"name": "kahan_sgd", "lr": 0.05, "momentum": 0.9, "rounding": rounding}
    recipe = Recipe(choice, "cosine", precision="bf16-true")

    def fit(module, epochs, **resuming):
        trainer = make_trainer(max_epochs=4, callbacks=[StopAfter(epochs)], **recipe.trainer_arguments())
        trainer.fit(module, datamodule=Ordered(), **resuming)
        return trainer

    L.seed_everything(1, verbose=False)
    straight = recipe.apply(UsersModule())
    half = copy.deepcopy(straight)
    fit(straight, 4)
    assert {parameter.dtype for parameter in straight.parameters()} == {torch.bfloat16}
    fit(half, 2).save_checkpoint(tmp_path / "half.ckpt")
    resumed = recipe.apply(UsersModule())
    fit(resumed, 4, ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    assert torch.equal(parameters_of(resumed), parameters_of(straight))


class StopAfter(L.Callback):
    """Ends the training after so many epochs."""

    def __init__(self, epochs):
        self.epochs = epochs

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = trainer.current_epoch + 1 >= self.epochs


def test_a_slow_training_in_bf16_true_goes_as_far_as_in_float32():
    """At a rate whose updates plain rounding loses."""
    losses = {}
    for name, precision in (("sgd", "32-true"), ("sgd", "bf16-true"), ("kahan_sgd", "bf16-true")):
        L.seed_everything(1, verbose=False)
        recipe = Recipe({"name": name, "lr": 2e-3}, precision=precision)
        trainer = make_trainer(max_epochs=60, **recipe.trainer_arguments())
        trainer.fit(recipe.apply(UsersModule()), datamodule=UsersData())
        losses[name, precision] = float(trainer.callback_metrics["val_loss"])
    exact = losses["sgd", "32-true"]
    assert losses["kahan_sgd", "bf16-true"] == pytest.approx(exact, abs=0.01)
    assert losses["sgd", "bf16-true"] > exact + 0.05


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": -1.0}, "negative"),
        ({"momentum": -0.1}, "momentum is at least 0"),
        ({"nesterov": True}, "nesterov needs a momentum"),
        ({"rounding": "up"}, "rounding is kahan, stochastic or nearest"),
    ],
)
def test_wrong_arguments_are_refused(changes, message):
    with pytest.raises(UserError, match=message) as caught:
        make_trainer().fit(Recipe({"name": "kahan_sgd", **changes}).apply(UsersModule()), datamodule=UsersData())
    assert "\n" not in str(caught.value)


def test_random_rounding_is_for_bfloat16():
    weight = torch.nn.Parameter(torch.ones(2, dtype=torch.float16))
    weight.grad = torch.ones_like(weight)
    with pytest.raises(ValueError, match=r"to bfloat16, not to torch\.float16"):
        KahanSGD([weight], rounding="stochastic").step()
