"""Schedules against their closed forms and against torch's own, at every step."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    StepLR,
)
from users_project import UsersData, UsersModule, make_trainer

from trainoff.errors import UserError
from trainoff.modules import SCHEDULES, Recipe
from trainoff.modules.schedule_building import build_schedule, lightning_scheduler

TOTAL = 60


def torch_rates(make, steps=TOTAL, lr=0.5):
    """The rates that torch's scheduler gives, step by step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("choice", "make"),
    [
        ({"name": "cosine"}, lambda o: CosineAnnealingLR(o, TOTAL)),
        ({"name": "cosine", "minimum": 0.1}, lambda o: CosineAnnealingLR(o, TOTAL, eta_min=0.05)),
        ({"name": "exponential", "gamma": 0.93}, lambda o: ExponentialLR(o, 0.93)),
        ({"name": "step", "every": 7, "gamma": 0.3}, lambda o: StepLR(o, 7, 0.3)),
        ({"name": "multistep", "milestones": [3, 20, 21], "gamma": 0.4}, lambda o: MultiStepLR(o, [3, 20, 21], 0.4)),
        ({"name": "linear", "minimum": 0.2}, lambda o: LinearLR(o, 1.0, 0.2, TOTAL)),
        ({"name": "polynomial", "power": 1.7}, lambda o: PolynomialLR(o, TOTAL, 1.7)),
        (
            {"name": "cosine_restarts", "period": 7, "growth": 2, "minimum": 0.1},
            lambda o: CosineAnnealingWarmRestarts(o, 7, 2, 0.05),
        ),
        ({"name": "cosine_restarts", "period": 9}, lambda o: CosineAnnealingWarmRestarts(o, 9)),
        ({"name": "cyclic", "rise": 8, "minimum": 0.2}, lambda o: CyclicLR(o, 0.1, 0.5, 8, cycle_momentum=False)),
        ({"name": "one_cycle"}, lambda o: OneCycleLR(o, max_lr=0.5, total_steps=TOTAL, cycle_momentum=False)),
        (
            {"name": "one_cycle", "rise": 0.5, "start_divisor": 10, "final_divisor": 100},
            lambda o: OneCycleLR(
                o, 0.5, TOTAL, pct_start=0.5, div_factor=10, final_div_factor=100, cycle_momentum=False
            ),
        ),
    ],
)
def test_equal_to_torchs_at_every_step(choice, make):
    factor = build_schedule(choice, TOTAL)
    for step, expected in enumerate(torch_rates(make)):
        assert 0.5 * factor(step) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def triangle(step, rise):
    """Up and down again, once in 2 · rise steps, from 0 to 1."""
    place = step % (2 * rise)
    return place / rise if place <= rise else 2 - place / rise


def cosine_between(first, last, share):
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


def restarts(step, period, growth):
    """Share of the present period that is over."""
    while step >= period:
        step, period = step - period, period * growth
    return step / period


CLOSED_FORMS = [
    ({"name": "constant"}, lambda t, total: 1.0),
    ({"name": "exponential", "gamma": 0.93}, lambda t, total: 0.93**t),
    ({"name": "inverse_power", "beta": 0.4, "gamma": 0.7}, lambda t, total: 1 / (1 + 0.4 * t) ** 0.7),
    ({"name": "step", "every": 7, "gamma": 0.3}, lambda t, total: 0.3 ** (t // 7)),
    ({"name": "multistep", "milestones": [3, 20], "gamma": 0.4}, lambda t, total: 0.4 ** ((t >= 3) + (t >= 20))),
    ({"name": "linear", "minimum": 0.2}, lambda t, total: 1 - 0.8 * t / total),
    ({"name": "polynomial", "power": 1.7}, lambda t, total: (1 - t / total) ** 1.7),
    ({"name": "cosine", "minimum": 0.1}, lambda t, total: cosine_between(1, 0.1, t / total)),
    ({"name": "cosine_restarts", "period": 7, "growth": 2}, lambda t, total: cosine_between(1, 0, restarts(t, 7, 2))),
    ({"name": "cyclic", "rise": 8, "minimum": 0.2}, lambda t, total: 0.2 + 0.8 * triangle(t, 8)),
    ({"name": "rex"}, lambda t, total: (1 - t / total) / (0.5 + 0.5 * (1 - t / total))),
    ({"name": "wsd", "decay": 0.25}, lambda t, total: min(1.0, (1 - t / total) / 0.25)),
    (
        {"name": "one_cycle", "rise": 0.5, "start_divisor": 10, "final_divisor": 100},
        lambda t, total: (
            cosine_between(0.1, 1, t / (total / 2 - 1))
            if t <= total / 2 - 1
            else cosine_between(1, 0.001, (t - total / 2 + 1) / (total / 2))
        ),
    ),
]


@pytest.mark.parametrize(("choice", "formula"), CLOSED_FORMS, ids=[choice["name"] for choice, _ in CLOSED_FORMS])
def test_every_schedule_is_its_closed_form_at_every_step(choice, formula):
    factor = build_schedule(choice, TOTAL)
    for step in range(TOTAL):
        assert factor(step) == pytest.approx(formula(step, TOTAL), rel=1e-9, abs=1e-12)


def test_every_schedule_has_its_closed_form_here():
    assert {choice["name"] for choice, _ in CLOSED_FORMS} == {entry.name for entry in SCHEDULES} - {"plateau"}


@given(beta=st.floats(0, 10), gamma=st.floats(0, 3), step=st.integers(0, 10_000))
def test_inverse_power_is_its_formula(beta, gamma, step):
    factor = build_schedule({"name": "inverse_power", "beta": beta, "gamma": gamma}, TOTAL)
    assert factor(step) == pytest.approx(1 / math.pow(1 + beta * step, gamma), rel=1e-12)


@given(step=st.integers(0, 200), total=st.integers(1, 200))
def test_rex_is_its_formula(step, total):
    share = min(step / total, 1)
    expected = (1 - share) / (0.5 + 0.5 * (1 - share))
    assert build_schedule({"name": "rex"}, total)(step) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shape", ["linear", "sqrt"])
@given(decay=st.floats(0.05, 1), minimum=st.floats(0, 1), total=st.integers(1, 200))
def test_wsd_is_stable_then_decays_to_its_minimum(shape, decay, minimum, total):
    factor = build_schedule({"name": "wsd", "decay": decay, "shape": shape, "minimum": minimum}, total)
    for step in range(total + 1):
        before = step / total <= 1 - decay
        done = (step / total - (1 - decay)) / decay
        fall = 0 if before else done**0.5 if shape == "sqrt" else done
        assert factor(step) == pytest.approx(1 - (1 - minimum) * fall, abs=1e-6)
    assert factor(total) == pytest.approx(minimum, abs=1e-6)


@given(warmup=st.integers(1, 50), total=st.integers(51, 300))
def test_warm_up_rises_linearly_and_hands_over(warmup, total):
    factor = build_schedule({"name": "cosine", "warmup": warmup}, total)
    for step in range(warmup):
        assert factor(step) == pytest.approx((step + 1) / warmup)
    for step in range(warmup, total):
        expected = (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2
        assert factor(step) == pytest.approx(expected, abs=1e-12)


def test_a_share_below_one_is_a_share_of_the_steps():
    assert build_schedule({"name": "constant", "warmup": 0.1}, 200).warmup == 20
    assert build_schedule({"name": "constant", "warmup": 30}, 200).warmup == 30


@pytest.mark.parametrize("name", [entry.name for entry in SCHEDULES if entry.name != "plateau"])
def test_rates_stay_within_the_base_rate(name):
    factor = build_schedule({"name": name, "warmup": 5}, TOTAL)
    assert all(0 <= factor(step) <= 1 for step in range(TOTAL + 1))


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ({"name": "multistep", "milestones": [5, 3]}, "milestones are rising"),
        ({"name": "polynomial", "power": 0.0}, "power is 0.0; it is above 0"),
        ({"name": "cosine_restarts", "period": 0}, "period and growth are at least 1"),
        ({"name": "wsd", "decay": 0.0}, r"decay is 0.0; it lies in \(0, 1\]"),
        ({"name": "wsd", "shape": "cubic"}, "shape is 'cubic'; it is 'linear' or 'sqrt'"),
        ({"name": "linear", "minimum": 1.5}, r"minimum is 1.5; it lies in \[0, 1\]"),
        ({"name": "cyclic", "rise": 0}, "rise is 0; it is at least 1"),
    ],
)
def test_values_out_of_range_are_refused(schedule, said):
    with pytest.raises(UserError, match=said):
        Recipe(schedule=schedule).validate()


def test_plateau_is_torchs_and_reads_what_it_names():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    choice = {"name": "plateau", "patience": 1, "multiplier": 0.5, "monitor": "val_acc", "mode": "max"}
    made = lightning_scheduler(choice, optimizer, math.inf, None)
    assert made["monitor"] == "val_acc"
    for value in (0.5, 0.4, 0.4):  # one better, then two without improvement
        made["scheduler"].step(value)
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_a_schedule_that_ends_needs_an_end():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(UserError, match="max_epochs or max_steps"):
        lightning_scheduler({"name": "cosine"}, optimizer, math.inf, None)
    assert lightning_scheduler({"name": "inverse_power"}, optimizer, math.inf, None) is not None


class RateLog(UsersModule):
    """Notes the rate that each step is taken with."""

    def __init__(self):
        super().__init__()
        self.rates = []

    def on_train_batch_start(self, batch, batch_idx):
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])


@pytest.mark.parametrize("microbatches", [1, 2])
def test_in_a_trainer_the_rate_follows_optimizer_steps(microbatches):
    """Also under accumulation, where a schedule counted in batches would run twice as fast."""
    schedule = {"name": "inverse_power", "beta": 0.5, "gamma": 1.0}
    recipe = Recipe(optimizer={"name": "sgd", "lr": 0.2}, schedule=schedule, batch=32, microbatches=microbatches)
    module = recipe.apply(RateLog())
    make_trainer(max_epochs=2, **recipe.trainer_arguments()).fit(module, datamodule=UsersData(samples=96))
    expected = [0.2 / (1 + 0.5 * step) for step in range(6) for _ in range(microbatches)]
    assert module.rates == pytest.approx(expected)


def test_rate_continues_exactly_after_a_resume(tmp_path):
    recipe = Recipe(optimizer={"name": "sgd", "lr": 0.2}, schedule={"name": "cosine", "warmup": 0.25}, batch=16)
    whole = recipe.apply(RateLog())
    make_trainer(max_epochs=4).fit(whole, datamodule=UsersData())

    class StopAfterTwo(RateLog):
        def on_train_epoch_end(self):
            self.trainer.should_stop = self.current_epoch == 1

    first = recipe.apply(StopAfterTwo())
    trainer = make_trainer(max_epochs=4)
    trainer.fit(first, datamodule=UsersData())
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    second = recipe.apply(RateLog())
    make_trainer(max_epochs=4).fit(second, datamodule=UsersData(), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    assert first.rates + second.rates == pytest.approx(whole.rates)


def test_inverse_power_is_its_formula_across_a_resume_in_mid_epoch(tmp_path):
    """α₀/(1 + βt)^γ at each step, five steps before and the others after a checkpoint; four steps make an epoch."""
    recipe = Recipe({"name": "sgd", "lr": 0.3}, {"name": "inverse_power", "beta": 0.7, "gamma": 1.3}, batch=24)
    data = {"samples": 96}
    first = recipe.apply(RateLog())
    keep = ModelCheckpoint(tmp_path, filename="five", every_n_train_steps=5)
    trainer = make_trainer(max_epochs=3, max_steps=5, callbacks=[keep], enable_checkpointing=True)
    trainer.fit(first, datamodule=UsersData(**data))
    second = recipe.apply(RateLog())
    resumed = make_trainer(max_epochs=3)
    resumed.fit(second, datamodule=UsersData(**data), ckpt_path=tmp_path / "five.ckpt", weights_only=True)
    assert len(first.rates) == 5
    assert resumed.global_step == 12
    expected = [0.3 / (1 + 0.7 * step) ** 1.3 for step in range(12)]
    assert first.rates + second.rates == pytest.approx(expected, rel=1e-12)


@given(values=st.lists(st.floats(0, 1).map(lambda x: round(x, 1)), min_size=3, max_size=8), patience=st.integers(0, 2))
@settings(deadline=None, max_examples=15)
def test_plateau_in_a_trainer_is_torchs_on_the_values_that_were_logged(values, patience):
    class Told(RateLog):
        def validation_step(self, batch, batch_idx):
            self.log("val_score", values[self.current_epoch])

    schedule = {"name": "plateau", "monitor": "val_score", "mode": "max", "patience": patience, "multiplier": 0.5}
    module = Recipe({"name": "sgd", "lr": 0.2}, schedule).apply(Told())
    make_trainer(max_epochs=len(values), num_sanity_val_steps=0).fit(module, datamodule=UsersData(batch_size=96))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    scheduler = ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=patience)
    expected = []
    for value in values:
        expected.append(optimizer.param_groups[0]["lr"])
        scheduler.step(value)
    assert module.rates == pytest.approx(expected)


@pytest.mark.parametrize(("logged", "monitor"), [("val_loss", "val/loss"), ("val/loss", "val_loss")])
def test_plateau_finds_either_spelling(logged, monitor):
    """A loss that never improves: after the first epoch each one without improvement halves the rate."""

    class Flat(RateLog):
        def validation_step(self, batch, batch_idx):
            self.log(logged, 1.0)

    schedule = {"name": "plateau", "monitor": monitor, "patience": 0, "multiplier": 0.5}
    module = Recipe({"name": "sgd", "lr": 0.2}, schedule).apply(Flat())
    make_trainer(max_epochs=4).fit(module, datamodule=UsersData(batch_size=96))
    assert module.rates == pytest.approx([0.2, 0.2, 0.1, 0.05])


def test_plateau_falls_where_there_was_a_validation():
    """Every second epoch: without a new value the rate stays."""

    class Flat(RateLog):
        def validation_step(self, batch, batch_idx):
            self.log("val_loss", 1.0)

    schedule = {"name": "plateau", "patience": 0, "multiplier": 0.5}
    module = Recipe({"name": "sgd", "lr": 0.2}, schedule).apply(Flat())
    make_trainer(max_epochs=7, check_val_every_n_epoch=2).fit(module, datamodule=UsersData(batch_size=96))
    assert module.rates == pytest.approx([0.2, 0.2, 0.2, 0.2, 0.1, 0.1, 0.05])


def test_plateau_on_what_is_not_logged_says_what_is():
    module = Recipe("sgd", {"name": "plateau", "monitor": "val/lss"}).apply(UsersModule())
    with pytest.raises(UserError, match=r"no 'val/lss' is logged; did you mean val_loss") as caught:
        make_trainer().fit(module, datamodule=UsersData())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ({"name": "constant", "warmup": 12}, "schedule.warmup: 12 steps, of 12 in the whole training"),
        ({"name": "cosine", "warmup": 0.99}, "schedule.warmup: 12 steps, of 12 in the whole training"),
        ({"name": "exponential", "warmup": 3}, "schedule.warmup: 3 epochs, of 2 in the whole training"),
    ],
)
def test_a_warm_up_as_long_as_the_training_is_refused(schedule, said):
    module, trainer = Recipe("sgd", schedule).apply(UsersModule()), make_trainer(max_epochs=2)
    with pytest.raises(UserError, match=said) as caught:
        trainer.fit(module, datamodule=UsersData(batch_size=16))
    assert "\n" not in str(caught.value)
    assert trainer.global_step == 0
    almost = {**schedule, "warmup": 1 if schedule["warmup"] == 3 else 11}
    make_trainer(max_epochs=2).fit(Recipe("sgd", almost).apply(module), datamodule=UsersData(batch_size=16))


@pytest.mark.parametrize("schedule", [{"name": "cosine", "warmup": 12}, "plateau", "one_cycle"])
def test_fast_dev_run_tries_any_schedule(schedule):
    """One step is no training, so that no warm-up is too long for it."""
    trainer = make_trainer(fast_dev_run=True)
    trainer.fit(Recipe("sgd", schedule).apply(UsersModule()), datamodule=UsersData())
    assert trainer.global_step == 1
