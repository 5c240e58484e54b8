"""Suite files: what each key means."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suite_texts import SUITE, place, plain

from trainoff.benchmarks.suite import parse_suite
from trainoff.benchmarks.suite_yaml import dump_yaml
from trainoff.errors import UserError
from trainoff.modules.recipe import Recipe


def test_every_key_reaches_the_suite(load):
    suite = load(dump_yaml(plain()))
    assert (suite.name, suite.baseline, suite.time_limit) == ("mine", "a", 60)
    assert (suite.tune_seeds, suite.final_seeds) == ((0,), (1, 2))
    (task,) = suite.tasks
    assert (task.name, task.metric, task.mode, task.target) == ("t", "accuracy", "max", 0.9)
    assert (task.budget.epochs, task.budget.steps, task.budget.gradient_norm) == (1, None, 1e-3)
    assert task.module == {"name": "classifier", "net": {"name": "mlp", "hidden": [8]}}
    assert task.data == {"name": "digits", "val_fraction": 0.2}
    a, b = suite.recipes
    assert (a.name, b.name) == ("a", "b")
    assert [setting.tuned for setting in b.settings] == [{"optimizer.lr": 0.1}, {"optimizer.lr": 0.2}]
    assert b.settings[1].fields["optimizer"] == {"name": "sgd", "lr": 0.2}
    assert b.settings[0].fields["batch"] == 32
    assert a.settings[0].fields["schedule"] == {"name": "constant"}


def test_a_suite_means_the_same_from_yaml_and_from_python(load):
    assert load(dump_yaml(plain())) == parse_suite(plain(), place)


def test_numpys_numbers_in_python_are_the_numbers_that_a_file_holds(load):
    data = plain()
    data["seeds"] = {"tune": np.int64(1), "final": np.int64(2)}
    data["tasks"]["t"]["target"] = np.float64(0.9)
    data["recipes"]["a"]["batch"] = np.int32(32)
    rates = np.array([0.1, 0.2])
    for values in (rates, list(rates)):
        data["recipes"]["a"]["optimizer"]["lr"] = {"tune": values}
        suite = parse_suite(data, place)
        assert repr(suite) == repr(parse_suite(plain(), place))
        assert load(dump_yaml(suite.data)) == suite


def test_tuples_in_python_are_the_lists_that_a_record_holds():
    data = plain()
    data["tasks"]["t"]["module"]["net"]["hidden"] = (8,)
    suite = parse_suite(data, place)
    assert suite == parse_suite(plain(), place)
    assert isinstance(suite.tasks[0].module["net"]["hidden"], list)


@pytest.mark.parametrize(
    ("seeds", "tune", "final"),
    [
        ("3", 1, 3),
        ("{tune: 1, final: 3}", 1, 3),
        ("{final: 2}", 1, 2),
        ("{tune: 2}", 2, 3),
        ("{tune: 2, final: 4}", 2, 4),
    ],
)
def test_seeds(load, seeds, tune, final):
    suite = load(f"seeds: {seeds}\n{SUITE}")
    assert suite.tune_seeds == tuple(range(tune))
    assert suite.final_seeds == tuple(range(tune, tune + final))


def test_seeds_by_default_are_one_and_three(load):
    assert load(SUITE) == dataclasses.replace(load(f"seeds: 3\n{SUITE}"), data=load(SUITE).data)


@pytest.mark.parametrize(
    ("metric", "mode"), [("accuracy", "max"), ("val_acc", "max"), ("val/loss", "min"), ("validation_mse", "min")]
)
def test_the_mode_follows_from_a_known_metrics_name(load, metric, mode):
    assert load(SUITE.replace("accuracy", metric)).tasks[0].mode == mode


def test_a_base_chain_adds_up_and_the_nearest_wins(load):
    suite = load(
        SUITE
        + "    batch: 16\n"
        + "  b: {base: a, schedule: cosine}\n"
        + "  c: {base: b, batch: 64, regularizers: [l2]}\n"
        + "  d: {base: c}\n"
    )
    fields = {recipe.name: recipe.settings[0].fields for recipe in suite.recipes}
    assert fields["c"] == {**fields["b"], "batch": 64, "regularizers": [{"name": "l2"}]}
    assert fields["b"] == {**fields["a"], "schedule": {"name": "cosine"}}
    assert fields["d"] == fields["c"]


def test_a_recipe_may_be_empty(load):
    assert load(SUITE + "  b:\n").recipes[1].settings[0].fields == Recipe().to_dict()


@settings(max_examples=50, deadline=None)
@given(
    low=st.floats(1e-6, 1.0),
    factor=st.floats(1.5, 1e4),
    points=st.integers(2, 9),
    log=st.booleans(),
)
def test_a_range_is_its_closed_form(low, factor, points, log):
    data = plain()
    high = low * factor
    data["recipes"] = {
        "a": {"optimizer": {"name": "sgd", "lr": {"tune": {"min": low, "max": high, "log": log, "points": points}}}}
    }
    made = [
        setting.tuned["optimizer.lr"] for setting in parse_suite(data | {"baseline": "a"}, place).recipes[0].settings
    ]
    assert len(made) == points
    for index, value in enumerate(made):
        share = index / (points - 1)
        exact = math.exp(math.log(low) + share * math.log(factor)) if log else low + share * (high - low)
        assert value == pytest.approx(exact, rel=1e-5)


def test_two_tunes_make_their_product_in_order(load):
    suite = load(
        SUITE.replace("lr: 0.1", "lr: {tune: [0.1, 0.2]}")
        + "    regularizers: [{name: l2, coefficient: {tune: [0.1, 0.0]}}]\n"
    )
    keys = ("optimizer.lr", "regularizers[0].coefficient")
    values = [tuple(setting.tuned[key] for key in keys) for setting in suite.recipes[0].settings]
    assert values == [(0.1, 0.1), (0.1, 0.0), (0.2, 0.1), (0.2, 0.0)]


def test_only_and_with_seeds(load):
    suite = load(SUITE + "  b: {base: a}\n  ab: {base: a}\n")
    assert [recipe.name for recipe in suite.only("a*").recipes] == ["a", "ab"]
    assert suite.only("b").baseline == "b"
    assert suite.with_seeds(5).final_seeds == (1, 2, 3, 4, 5)
    assert suite.with_seeds(5).data["seeds"] == {"tune": 1, "final": 5}
    with pytest.raises(UserError, match="--only: no recipe matches 'x'; there are a, b, ab"):
        suite.only("x")
    for number in (0, -3):
        with pytest.raises(UserError, match=f"--seeds: {number} seeds; at least 1"):
            suite.with_seeds(number)
