"""Suite files: of each mistake the line, the key and what would be right."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suite_texts import SUITE, place, plain

from trainoff.benchmarks.suite import parse_suite
from trainoff.benchmarks.suite_yaml import dump_yaml
from trainoff.errors import UserError

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
