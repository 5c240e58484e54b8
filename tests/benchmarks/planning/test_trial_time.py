"""Budgets as steps and seconds, and the time of a suite's trials."""

from __future__ import annotations

import json

import pytest
from running_suites import make_data, place

from trainoff.benchmarks.planning.step_batches import bytes_of_data, samples_of_step, step_batches
from trainoff.benchmarks.planning.suite_plan import plan_suite
from trainoff.benchmarks.planning.trial_time import total_time
from trainoff.benchmarks.suite import parse_suite
from trainoff.benchmarks.trial import Budget
from trainoff.datamodules import Digits
from trainoff.modules.recipe import Recipe


@pytest.fixture(scope="module")
def digits():
    data = Digits()
    data.setup()
    return data  # 1,079 for training, 359 for validation


@pytest.mark.parametrize(
    ("budget", "steps", "seconds"),
    [
        (Budget(steps=100), 100, 100 * 0.5 + 2 + 9 * 0.5 * 359 / 108 / 3),
        (Budget(epochs=1), 10, 10 * 0.5 + 2),
        (Budget(epochs=3), 30, 30 * 0.5 + 2 + 2 * 0.5 * 359 / 108 / 3),
        (Budget(epochs=3, steps=10), 10, 10 * 0.5 + 2),
        (Budget(epochs=1, seconds=4), 8, 4 + 2),
        (Budget(seconds=4), 8, 4 + 2),
    ],
)
def test_a_budget_is_so_many_steps_and_validations(digits, budget, steps, seconds):
    found = total_time(budget, digits, samples=108, step=0.5, once=2.0, flops=1, how="")
    assert found.steps == steps
    assert found.seconds == pytest.approx(seconds)


@pytest.mark.parametrize(("recipe", "sizes"), [({"batch": 64}, [64]), ({"batch": 10, "microbatches": 3}, [4, 3, 3])])
def test_batches_are_those_of_the_datamodule(digits, recipe, sizes):
    made = Recipe.of(recipe)
    batches = step_batches(digits, made, samples_of_step(digits, made))
    assert [len(inputs) for inputs, targets in batches] == sizes
    assert digits.batch_size == 128
    assert digits.microbatches == 1


def test_a_full_batch_is_the_training_split(digits):
    assert samples_of_step(digits, Recipe(batch="full")) == len(digits.split("train")[0])
    assert samples_of_step(digits, Recipe()) == 128


def test_data_in_memory_are_counted(digits):
    size = sum(len(digits.split(name)[0]) for name in ("train", "val", "test"))
    assert bytes_of_data(digits) == size * (64 * 4 + 8)


def test_a_suite_is_planned_pair_by_pair():
    recipes = {"adamw": {"batch": 32}, "sgd": {"optimizer": {"name": "sgd", "lr": {"tune": [0.1, 0.01]}}}}
    suite = parse_suite(make_data(recipes, seeds={"tune": 1, "final": 2}), place)
    plan = plan_suite(suite, workers=2)
    assert [(pair.recipe, pair.trials, pair.samples) for pair in plan.pairs] == [("adamw", 2, 32), ("sgd", 4, 128)]
    assert plan.trials == 6
    assert plan.seconds == pytest.approx(sum(pair.trials * pair.time.seconds for pair in plan.pairs) / 2)
    parameters = 64 * 8 + 8 + 8 * 10 + 10
    for pair in plan.pairs:
        memory = pair.strategy.memory
        assert memory.parameters == 4 * parameters
        assert memory.copies >= 4 * parameters  # the best state
        assert pair.flops_per_step == pair.samples * (2 * 2 * 64 * 8 + 3 * 2 * 8 * 10)
        assert 0 < pair.time.seconds < 60
    json.dumps(plan.to_dict())


def test_of_tuned_batches_the_largest_is_planned(digits):
    recipes = {"adamw": {"batch": {"tune": [16, "full", 64]}}}
    (pair,) = plan_suite(parse_suite(make_data(recipes), place)).pairs
    assert pair.samples == len(digits.split("train")[0])


def test_a_recipes_own_strategy_is_planned():
    recipes = {"a": {"batch": 32, "strategy": {"name": "ddp", "devices": 4}}, "b": {"batch": 32}}
    suite = parse_suite(make_data(recipes), place)
    own, other = plan_suite(suite).pairs
    assert (own.strategy.strategy, own.strategy.devices, own.strategy.samples) == ("ddp", 4, 8)
    assert (other.strategy.strategy, other.strategy.devices) == ("single_device", 1)
    given = plan_suite(suite, devices=2, strategy="fsdp").pairs
    assert [(pair.strategy.strategy, pair.strategy.devices) for pair in given] == [("fsdp", 2)] * 2
