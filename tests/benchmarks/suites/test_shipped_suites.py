"""The shipped suites: what each promises."""

from __future__ import annotations

import copy
import math
from importlib.metadata import version
from pathlib import Path

import pytest
from suite_texts import SUITE, place

from trainoff.benchmarks.runner import run_suite
from trainoff.benchmarks.store import RunFolder
from trainoff.benchmarks.suite import load_suite, parse_suite
from trainoff.benchmarks.suite_registry import SUITES
from trainoff.benchmarks.suite_yaml import read_yaml
from trainoff.errors import UserError
from trainoff.modules import pytorch_optimizer_names


def shipped(name):
    """A shipped suite; the one of the method cards names every optimizer, some of which an older library lacks."""
    if name == "method-cards" and version("pytorch_optimizer") not in str(pytorch_optimizer_names.__doc__):
        pytest.skip("names optimizers of another version of pytorch_optimizer than the one installed")
    return load_suite(name)


@pytest.mark.parametrize("name", SUITES.names())
def test_a_shipped_suite_is_read(name):
    suite = shipped(name)
    assert suite.name == name
    assert suite.summary
    assert suite.baseline in {recipe.name for recipe in suite.recipes}
    # What is written beside the records is the same suite again.
    assert parse_suite(suite.data, place) == suite


def test_each_recipe_of_digits_is_one_change_away_from_the_baseline():
    data = read_yaml(SUITES["digits"].load()).data
    suite = load_suite("digits")
    fields = {}
    for recipe in suite.recipes:
        first = copy.deepcopy(recipe.settings[0].fields)
        if recipe.is_tuned:
            first["optimizer"].pop("lr")  # each tunes its own rate
        fields[recipe.name] = first
    assert len(fields) >= 10
    baseline = fields.pop(data["baseline"])
    for name, recipe in fields.items():
        changed = {key for key in {*baseline, *recipe} if baseline.get(key) != recipe.get(key)}
        assert len(changed) == 1, (name, changed)
        if "regularizers" in changed:
            assert len(recipe["regularizers"]) == 1


PURPOSES = ("search", "compression", "training", "inference", "deployment", "updating")


def test_surgery_has_a_recipe_for_each_of_its_purposes():
    text = Path(str(SUITES["surgery"].load())).read_text(encoding="utf-8")
    recipes = {recipe.name: recipe.settings[0].fields for recipe in load_suite("surgery").recipes}
    dense = recipes.pop("dense")
    for purpose in PURPOSES:
        assert f"# {purpose.capitalize()}: " in text
        assert purpose in recipes
    for name, fields in recipes.items():
        changed = {key for key in {*dense, *fields} if dense.get(key) != fields.get(key)}
        assert changed == ({"pruning", "parameters"} if name == "updating" else {"pruning"})


@pytest.mark.slow
def test_surgery_serves_its_purposes(tmp_path):
    run_suite(load_suite("surgery"), tmp_path / "run", 2)
    records, problems = RunFolder(tmp_path / "run").read_all()
    assert not problems
    assert {record.status for record in records.values()} == {"ok"}
    found = {name: [] for name in (*PURPOSES, "dense", "compression-one-shot", "training-synflow")}
    for record in records.values():
        found[record.trial.recipe].append(record)

    def mean(name, get):
        return sum(map(get, found[name])) / len(found[name])

    def test(name):
        return mean(name, lambda record: record.quality.best.test.metric)

    for name in found:
        assert test(name) > test("dense") - 0.03, name
        if name != "dense":
            share = mean(name, lambda record: record.compression.bytes_on_disk / record.compression.dense_bytes)
            assert share < 0.8
    assert all(record.compression is None for record in found["dense"])
    # Search leaves layers of unequal width, deployment a quarter of each.
    assert all(0.4 < record.compression.sparsity < 0.7 for record in found["search"])
    assert all(record.compression.spliced > 100 for record in found["compression"])
    assert all(
        abs(record.compression.metric_after - record.compression.metric_before) < 0.01 for record in found["inference"]
    )
    # What is frozen is no candidate: most of the zeros that there could be are not there.
    assert all(record.compression.sparsity_all < record.compression.sparsity for record in found["updating"])


@pytest.mark.parametrize("name", SUITES.names())
def test_tuned_recipes_of_a_shipped_suite_have_equally_many_settings(name):
    counts = {len(recipe.settings) for recipe in shipped(name).recipes if recipe.is_tuned}
    assert len(counts) <= 1


def test_interactions_cross_batch_schedule_and_regularizer():
    recipes = {recipe.name: recipe.settings[0].fields for recipe in load_suite("interactions").recipes}
    levels = [{key: str(fields[key]) for key in ("batch", "schedule", "regularizers")} for fields in recipes.values()]
    counts = [len({level[key] for level in levels}) for key in ("batch", "schedule", "regularizers")]
    assert counts == [2, 3, 3]
    assert len({tuple(level.values()) for level in levels}) == len(recipes) == math.prod(counts)
    for name, fields in recipes.items():
        batch, schedule, regularizer = name.replace("inverse-power", "inverse_power").split("-")
        assert fields["batch"] == int(batch.removeprefix("batch"))
        assert fields["schedule"]["name"] == schedule
        assert [choice["name"] for choice in fields["regularizers"]] == [regularizer][: regularizer != "none"]


def test_depth_crosses_depth_initialisation_and_norm():
    suite = load_suite("depth")
    nets = {task.name: task.module["net"] for task in suite.tasks}
    assert {(len(net["hidden"]), net["norm"]) for net in nets.values()} == {
        (depth, norm) for depth in (2, 10, 30) for norm in (None, "batch", "layer")
    }
    assert all(name == f"depth{len(net['hidden'])}-{net['norm'] or 'none'}" for name, net in nets.items())
    starts = {recipe.settings[0].fields["initialisation"]["name"] for recipe in suite.recipes}
    assert starts == {"default", "xavier_normal", "kaiming_normal", "orthogonal"}


def test_an_unknown_suite_answers_with_the_closest_names():
    with pytest.raises(UserError, match="no suite is called 'digit'; did you mean digits"):
        load_suite("digit")


def test_a_missing_file_answers_with_its_neighbours(tmp_path):
    (tmp_path / "suite.yaml").write_text(SUITE)
    with pytest.raises(UserError, match=r"no such file; did you mean suite\.yaml"):
        load_suite(str(tmp_path / "suit.yaml"))


def test_a_name_too_long_for_a_file_is_no_traceback():
    with pytest.raises(UserError, match="no suite is called"):
        load_suite("a" * 5000)
