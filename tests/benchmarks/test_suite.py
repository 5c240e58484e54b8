"""Suite files: each key, and of each mistake the line, the key and what would be right."""

from __future__ import annotations

import copy
import dataclasses
import math
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainoff.benchmarks.runner import run_suite
from trainoff.benchmarks.store import RunFolder
from trainoff.benchmarks.suite import load_suite, parse_suite
from trainoff.benchmarks.suite_registry import SUITES
from trainoff.benchmarks.suite_yaml import dump_yaml, read_yaml
from trainoff.errors import UserError
from trainoff.modules import pytorch_optimizer_names
from trainoff.modules.recipe import Recipe

TASK = """\
  t:
    module: {name: classifier, net: {name: mlp, hidden: [8]}}
    data: digits
    metric: accuracy
    budget: {epochs: 1}
"""
SUITE = f"""\
name: mine
tasks:
{TASK}recipes:
  a:
    optimizer: {{name: sgd, lr: 0.1}}
"""


def plain():
    return {
        "name": "mine",
        "summary": "",
        "seeds": {"tune": 1, "final": 2},
        "baseline": "a",
        "time_limit": 60,
        "tasks": {
            "t": {
                "module": {"name": "classifier", "net": {"name": "mlp", "hidden": [8]}},
                "data": {"name": "digits", "val_fraction": 0.2},
                "metric": "accuracy",
                "mode": "max",
                "target": 0.9,
                "budget": {"epochs": 1, "until": {"gradient_norm": 1e-3}},
            }
        },
        "recipes": {
            "a": {"optimizer": {"name": "sgd", "lr": {"tune": [0.1, 0.2]}}, "batch": 32},
            "b": {"base": "a", "schedule": {"name": "cosine", "warmup": 0.1}, "regularizers": ["l2"]},
        },
    }


def place(*path):
    return ".".join(map(str, path)) or "suite"


@pytest.fixture
def load(tmp_path):
    """A suite from text; where a replacement is given, of that line in SUITE."""

    def load_(text):
        path = tmp_path / "s.yaml"
        path.write_text(text, encoding="utf-8")
        return load_suite(str(path))

    return load_


@pytest.fixture
def refusal(load, tmp_path):
    """The error of a suite text, without the folder that pytest made."""

    def refusal_(text):
        with pytest.raises(UserError) as caught:
            load(text)
        said = str(caught.value)
        assert "\n" not in said
        assert said.startswith(str(tmp_path))
        return said.removeprefix(f"{tmp_path}/")

    return refusal_


# --- what is right ----------------------------------------------------------------------------------------------


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


# --- what is wrong ----------------------------------------------------------------------------------------------

LR = "optimizer: {name: sgd, lr: 0.1}"
MISTAKES = [
    # of the suite
    ("name: mine", "name: a b", "s.yaml:1: name: 'a b' is not a name of letters"),
    ("name: mine", "name: 7", "s.yaml:1: name: 7 is not a name"),
    ("name: mine", "name: ../up", "s.yaml:1: name: '../up' is not a name"),
    ("name: mine", "", "s.yaml:2: 'name' is missing"),
    ("name: mine", "name: mine\nsede: 3", "s.yaml:2: sede: no key 'sede' here; did you mean seeds"),
    ("name: mine", "name: mine\nseeds: 0", "s.yaml:2: seeds: 0 is not a whole number from 1"),
    ("name: mine", "name: mine\nseeds: 1.5", "s.yaml:2: seeds: 1.5 is not a whole number"),
    ("name: mine", "name: mine\nseeds: true", "s.yaml:2: seeds: True is not a whole number"),
    ("name: mine", "name: mine\nseeds: {tune: 0, final: 1}", "s.yaml:2: seeds.tune: 0 is not a whole number"),
    (
        "name: mine",
        "name: mine\nseeds: {finale: 1}",
        "s.yaml:2: seeds.finale: no key 'finale' here; did you mean final?",
    ),
    ("name: mine", "name: mine\ntiming: alone", "s.yaml:2: timing: 'alone' is neither 'shared' nor 'exclusive'"),
    ("name: mine", "name: mine\ntime_limit: 0", "s.yaml:2: time_limit: 0 is not a finite number above 0"),
    ("name: mine", "name: mine\ntime_limit: .inf", "s.yaml:2: time_limit: inf is not a finite number above 0"),
    ("name: mine", "name: mine\nbaseline: aa", "s.yaml:2: baseline: no recipe is called 'aa'; did you mean a?"),
    ("name: mine", "name: mine\nbaseline: [a]", "s.yaml:2: baseline: no recipe is called '['a']'"),
    ("name: mine", "name: mine\nname: other", "s.yaml:2: name stands here and in line 1"),
    # of the task
    ("data: digits", "data: digit", "s.yaml:5: tasks.t.data: no datamodule is called 'digit'; did you mean digits?"),
    ("data: digits", "data: [digits]", "s.yaml:5: tasks.t.data: ['digits'] is neither a name nor a mapping"),
    ("data: digits", "data: {name: digits, val_fractoin: 0.1}", "s.yaml:5: tasks.t.data.val_fractoin: takes no"),
    (
        "data: digits",
        "data: no_such_package.Data",
        "s.yaml:5: tasks.t.data: class_path 'no_such_package.Data': no module",
    ),
    (
        "data: digits",
        "data: torch.nn.Linaer",
        "s.yaml:5: tasks.t.data: class_path 'torch.nn.Linaer': 'torch.nn' has no",
    ),
    ("data: digits", "data: {class_path: 5}", "s.yaml:5: tasks.t.data.class_path: 5 is not a package.module.Class"),
    ("data: digits", "data: {class_path: a.B, init_args: 5}", "s.yaml:5: tasks.t.data.init_args: a mapping is needed"),
    ("data: digits", "data: {class_path: a.B, arg: 5}", "s.yaml:5: tasks.t.data: 'arg' does not go with class_path"),
    (
        "data: digits",
        "data: {name: digits, val_fraction: .nan}",
        "s.yaml:5: tasks.t.data.val_fraction: nan is not a fin",
    ),
    (
        "name: classifier, net",
        "name: clasifier, net",
        "s.yaml:4: tasks.t.module: no LightningModule is called 'clasifier'",
    ),
    ("name: classifier, net", "net", "s.yaml:4: tasks.t.module: {'net': {'name': 'mlp', 'hidden': [8]}} has no name"),
    ("name: mlp", "name: mpl", "s.yaml:4: tasks.t.module.net: no net is called 'mpl'; did you mean mlp?"),
    ("hidden: [8]", "hiden: [8]", "s.yaml:4: tasks.t.module.net.hiden: takes no 'hiden'; did you mean hidden?"),
    ("metric: accuracy", "metric: 5", "s.yaml:6: tasks.t.metric: 5 is not the name of a metric"),
    ("metric: accuracy", "metric: glory", "tasks.t.mode: say whether 'glory' is to be max or min"),
    (
        "metric: accuracy",
        "metric: accuracy\n    mode: best",
        "s.yaml:7: tasks.t.mode: 'best' is neither 'max' nor 'min'",
    ),
    ("metric: accuracy", "metric: accuracy\n    target: .nan", "s.yaml:7: tasks.t.target: nan is not a finite number"),
    (
        "metric: accuracy",
        "metric: accuracy\n    target: high",
        "s.yaml:7: tasks.t.target: 'high' is not a finite number",
    ),
    ("    metric: accuracy\n", "", "s.yaml:3: tasks.t: 'metric' is missing"),
    ("{epochs: 1}", "{epochs: -1}", "s.yaml:7: tasks.t.budget.epochs: -1 is not a whole number from 1"),
    ("{epochs: 1}", "{epochs: 1.5}", "s.yaml:7: tasks.t.budget.epochs: 1.5 is not a whole number"),
    ("{epochs: 1}", "{steps: 0}", "s.yaml:7: tasks.t.budget.steps: 0 is not a whole number"),
    ("{epochs: 1}", "{seconds: 0}", "s.yaml:7: tasks.t.budget.seconds: 0 is not a finite number above 0"),
    ("{epochs: 1}", "{seconds: .inf}", "s.yaml:7: tasks.t.budget.seconds: inf is not a finite number above 0"),
    ("{epochs: 1}", "{}", "s.yaml:7: tasks.t.budget: is empty"),
    ("{epochs: 1}", "5", "s.yaml:7: tasks.t.budget: a mapping is needed, not a number"),
    ("{epochs: 1}", "{epoch: 1}", "s.yaml:7: tasks.t.budget.epoch: no key 'epoch' here; did you mean epochs?"),
    ("{epochs: 1}", "{until: {gradient_norm: 0.1}}", "s.yaml:7: tasks.t.budget: 'until' may never be reached"),
    (
        "{epochs: 1}",
        "{epochs: 1, until: {gradient_norm: -1}}",
        "budget.until.gradient_norm: -1 is not a finite number",
    ),
    (
        "{epochs: 1}",
        "{epochs: 1, until: converged}",
        "s.yaml:7: tasks.t.budget.until: a mapping is needed, not a text",
    ),
    # of the recipe
    (
        LR,
        "optimiser: sgd",
        "s.yaml:10: recipes.a.optimiser: no key 'optimiser' here; did you mean optimizer or compile?",
    ),
    (LR, "optimizer: sdg", "s.yaml:10: recipes.a.optimizer: no optimizer is called 'sdg'; did you mean sgd"),
    (LR, "optimizer: {name: sgd, lr: .nan}", "s.yaml:10: recipes.a.optimizer.lr: nan is not a finite number"),
    (LR, "optimizer: {name: sgd, lr: -0.1}", "s.yaml:10: recipes.a.optimizer.lr: a learning rate of -0.1 is negative"),
    (
        LR,
        "optimizer: {name: sgd, momentun: 0.9}",
        "s.yaml:10: recipes.a.optimizer.momentun: takes no 'momentun'; did you",
    ),
    (LR, "optimizer: {lr: 0.1}", "s.yaml:10: recipes.a.optimizer: {'lr': 0.1} has no name"),
    (
        LR,
        "schedule: cosin",
        "s.yaml:10: recipes.a.schedule: no schedule is called 'cosin'; did you mean cosine or cosine_restarts?",
    ),
    (LR, "regularizers: l2", "s.yaml:10: recipes.a.regularizers: is a list, not a text; write [l2] or"),
    (
        LR,
        "regularizers: [l2, l22]",
        "s.yaml:10: recipes.a.regularizers[1]: no regularizer is called 'l22'; did you mean l2",
    ),
    (
        LR,
        "pruning: gradul",
        "s.yaml:10: recipes.a.pruning: no pruning method is called 'gradul'; did you mean gradual",
    ),
    (LR, "pruning: {name: gradual, sparsty: 1}", "s.yaml:10: recipes.a.pruning.sparsty: takes no 'sparsty'; did you"),
    (LR, "pruning: {name: snip, sparsity: 1.0}", "s.yaml:10: recipes.a.pruning.sparsity: a share lies in [0, 1)"),
    (LR, "initialisation: defualt", "s.yaml:10: recipes.a.initialisation: no initialisation is called 'defualt'"),
    (LR, "batch: 0", "s.yaml:10: recipes.a.batch: 0 is neither a number of samples from 1 nor 'full'"),
    (LR, "batch: half", "s.yaml:10: recipes.a.batch: 'half' is neither a number of samples"),
    (LR, "microbatches: 0", "s.yaml:10: recipes.a.microbatches: 0 is not a whole number"),
    (LR, "precision: 17", "s.yaml:10: recipes.a.precision: no precision is called '17'"),
    (LR, "strategy: dpp", "s.yaml:10: recipes.a.strategy: no strategy is called 'dpp'; did you mean ddp"),
    (LR, "base: b", "s.yaml:10: recipes.a.base: no recipe is called 'b'"),
    (LR, "base: [b]", "s.yaml:10: recipes.a.base: no recipe is called '['b']'"),
    (LR, "base: a", "s.yaml:10: recipes.a.base: 'a' is its own base, through a"),
    (LR, "base: b\n  b: {base: c}\n  c: {base: a}", "recipes.a.base: 'a' is its own base, through a and b and c"),
    ("  a:\n", "  a/b:\n", "s.yaml:9: recipes.a/b: a recipe's name has letters"),
    ("  a:\n", "  a: {}\n  a:\n", "s.yaml:10: recipes.a stands here and in line 9"),
    # of tuning
    ("name: mine", "name: mine\ntuning: sobel", "s.yaml:2: tuning: no tuning is called 'sobel'; did you mean sobol"),
    ("name: mine", "name: mine\ntuning: {name: grid, points: 2}", "s.yaml:2: tuning.points: grid takes no 'points'"),
    ("name: mine", "name: mine\ntuning: {name: sobol, points: 1}", "tuning.points: 1 is not a whole number from 2"),
    # of tune
    (
        "name: mine",
        "name: mine\nseeds: 1000000000",
        "s.yaml:2: seeds: 1000000000 is above 100,000, the most there may be",
    ),
    (
        "lr: 0.1",
        "lr: {tune: {min: 0.1, max: 1, points: 1000000000}}",
        "'points' is 1000000000; a range has at most 10,000",
    ),
    (
        LR,
        f"batch: {{tune: {list(range(1, 102))}}}\n    microbatches: {{tune: {list(range(1, 101))}}}",
        "10,100 settings",
    ),
    ("lr: 0.1", "lr: {tune: []}", "s.yaml:10: recipes.a.optimizer.lr.tune: an empty grid; give at least one value"),
    ("lr: 0.1", "lr: {tune: [0.1, 0.1]}", "recipes.a.optimizer.lr.tune: a value stands twice in the grid"),
    ("lr: 0.1", "lr: {tune: 0.1}", "recipes.a.optimizer.lr.tune: is neither a list of values nor {min, max"),
    ("lr: 0.1", "lr: {tune: {min: 0.1}}", "recipes.a.optimizer.lr.tune: 'max' is None; a finite number is needed"),
    ("lr: 0.1", "lr: {tune: {min: 0.1, max: .nan}}", "recipes.a.optimizer.lr.tune: 'max' is nan; a finite number"),
    ("lr: 0.1", "lr: {tune: {min: 1, max: 0.1}}", "recipes.a.optimizer.lr.tune: min 1 is not below max 0.1"),
    ("lr: 0.1", "lr: {tune: {min: 0, max: 0.1, log: true}}", "min is 0; a logarithmic range begins above 0"),
    ("lr: 0.1", "lr: {tune: {min: 0.1, max: 1, points: 1}}", "'points' is 1; a range has at least 2"),
    ("lr: 0.1", "lr: {tune: {min: 0.1, max: 1, log: 1}}", "'log' is 1; true or false"),
    ("lr: 0.1", "lr: {tune: {min: 0.1, max: 1, point: 2}}", "a range has no 'point'; did you mean points"),
    ("lr: 0.1", "lr: {tune: [0.1, .nan]}", "s.yaml:10: recipes.a.optimizer.lr: nan is not a finite number"),
    ("lr: 0.1", "lr: {tune: [0.1, fast]}", "s.yaml:10: recipes.a.optimizer.lr: 'fast' is not a number"),
]


@pytest.mark.parametrize(("line", "mistake", "said"), MISTAKES, ids=[mistake[2] for mistake in MISTAKES])
def test_a_mistake_is_one_line_with_place_and_remedy(refusal, line, mistake, said):
    assert SUITE.count(line) == 1
    assert said in refusal(SUITE.replace(line, mistake))


@pytest.mark.parametrize("key", ["tasks", "recipes"])
def test_tasks_and_recipes_are_needed_and_not_empty(refusal, key):
    data = plain() | {key: {}}
    assert f"{key}: is empty" in refusal(dump_yaml(data))
    del data[key]
    assert f"'{key}' is missing" in refusal(dump_yaml(data))


def test_what_a_recipe_inherits_is_blamed_where_it_stands(refusal):
    text = SUITE.replace("lr: 0.1", "lr: -1") + "  b: {base: a}\n"
    # b alone is at fault in nothing; but were a fine, b's own key would be blamed:
    assert "s.yaml:10: recipes.a.optimizer.lr" in refusal(text)
    text = SUITE + "  b: {base: a, batch: 0}\n  c: {base: b}\n"
    assert "s.yaml:11: recipes.b.batch" in refusal(text)


def test_a_class_whose_module_fails_to_import_is_said_in_one_line(refusal, tmp_path, monkeypatch):
    (tmp_path / "broken_module_of_a_user.py").write_text("def f(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    said = refusal(SUITE.replace("data: digits", "data: broken_module_of_a_user.Data"))
    assert "s.yaml:5: tasks.t.data: importing broken_module_of_a_user.Data raised SyntaxError" in said


@pytest.mark.parametrize("value", [object(), {1: 2}, {"x": {3}}, b"bytes"])
def test_what_is_not_plain_data_is_refused_from_python(value):
    data = plain()
    data["tasks"]["t"]["data"] = {"name": "digits", "val_fraction": value}
    with pytest.raises(UserError, match=r"tasks\.t\.data\.val_fraction"):
        parse_suite(data, place)


def _nodes(data, path=()):
    yield path
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield from _nodes(value, (*path, key))


SCALARS = [None, True, 0, -1, 1.5, float("nan"), float("inf"), 10**30, "", "x", "²", "a.b"]
LISTS = [[], [[]], [None], [{"name": "l2"}], [{"class_path": 5}]]
MAPPINGS = [{}, {"tune": []}, {"tune": [1]}, {"name": 3}, {"name": "adamw", "x": {}}, {"base": []}]
CLASSES = [{"class_path": "os.path"}, {"class_path": 5}, {"class_path": "a.B", "init_args": 5}]
STRANGE = st.sampled_from([*SCALARS, *LISTS, *MAPPINGS, *CLASSES])


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_stands_anywhere_a_suite_is_read_or_refused_in_one_line(data):
    """A mistake is a UserError of one line, whatever it is; never another exception."""
    suite = plain()
    path = data.draw(st.sampled_from([path for path in _nodes(suite) if path]))
    node = suite
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = copy.deepcopy(data.draw(STRANGE))
    said = ""
    try:
        parse_suite(suite, place)
    except UserError as error:
        said = str(error)
    assert "\n" not in said


# --- what is shipped --------------------------------------------------------------------------------------------


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
