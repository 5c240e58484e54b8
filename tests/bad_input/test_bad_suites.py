"""Users' mistakes in suites and arguments: status 2, one line that says what and where, nothing written or lost."""

from __future__ import annotations

import os
import shutil

import pytest
from command_runs import RECIPES, write_suite
from running_suites import make_data

from trainoff.benchmarks.suite_yaml import dump_yaml
from trainoff.command_line import main


def test_a_missing_suite_answers_with_the_closest_names(refused, place):
    assert refused("run", "digit").startswith("no suite is called 'digit'; did you mean digits")
    write_suite(place, "mine.yaml")
    assert refused("run", "mime.yaml") == "mime.yaml: no such file; did you mean mine.yaml?"
    assert refused("run", "nowhere/mine.yaml") == "nowhere/mine.yaml: no such file; there is no folder nowhere"
    assert "no suite is called" in refused("run", "x" * 5000)
    assert refused("run", "")


def test_what_is_no_text_file_is_refused(refused, place):
    assert refused("run", ".") == ".: is a folder; name the YAML file in it"
    (place / "binary.yaml").write_bytes(bytes(range(256)))
    assert "binary.yaml:" in refused("run", "binary.yaml")
    (place / "zeros.yaml").write_bytes(b"\0" * 1000)
    assert refused("run", "zeros.yaml") == "zeros.yaml:1: the character U+0000 may not stand in YAML"
    (place / "empty.yaml").write_text("")
    assert "the file is empty" in refused("run", "empty.yaml")
    os.mkfifo(place / "pipe.yaml")
    assert refused("run", "pipe.yaml") == "pipe.yaml: is not a regular file"


def test_a_huge_a_deep_and_a_multiplying_file_are_refused(refused, place):
    (place / "huge.yaml").write_text("a: " + "[" * 5_000_000 + "]" * 5_000_000)
    assert "is larger than 1 MB" in refused("run", "huge.yaml")
    (place / "deep.yaml").write_text("[" * 400_000)
    assert "nested more than 50 levels deep" in refused("run", "deep.yaml")
    bomb = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    bomb += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    (place / "bomb.yaml").write_text("\n".join(bomb))
    assert "more than 100,000 values" in refused("run", "bomb.yaml")


def test_code_in_yaml_is_data_at_most(refused, place):
    (place / "code.yaml").write_text("name: !!python/object/apply:os.system ['touch owned']")
    assert "the tag" in refused("run", "code.yaml")
    assert not (place / "owned").exists()


def test_numbers_out_of_range_are_named_with_line_and_key(refused, place):
    write_suite(place, recipe={"optimizer": {"name": "sgd", "lr": float("nan")}})
    assert "recipes.sgd.optimizer.lr: nan is not a finite number" in refused("run", "s.yaml")
    write_suite(place, epochs=-1)
    assert "tasks.t.budget.epochs: -1 is not a whole number from 1" in refused("run", "s.yaml")
    write_suite(place, recipe={"optimizer": "sgd", "batch": 100_000})
    said = refused("run", "s.yaml")
    assert "recipe sgd on task t: batch: a batch of 100000 samples; the training split has" in said
    assert not (place / "runs").exists()


def test_data_that_cannot_be_loaded_are_said_with_task_and_place(refused, place, monkeypatch):
    write_suite(place, data={"name": "digits", "val_fraction": 5})
    line = 1 + (place / "s.yaml").read_text().splitlines().index("      val_fraction: 5")
    assert refused("run", "s.yaml").startswith(f"s.yaml:{line}: task t: data.val_fraction: 5")
    monkeypatch.syspath_prepend(place)
    (place / "data_of_a_user.py").write_text(
        "from users_project import UsersData\n"
        "class Broken(UsersData):\n"
        "    def setup(self, stage):\n"
        "        raise FileNotFoundError('no data\\nhere')\n"
    )
    write_suite(place, data="data_of_a_user.Broken", module="users_project.UsersModule")
    said = refused("run", "s.yaml")
    line = 1 + (place / "s.yaml").read_text().splitlines().index("    data: data_of_a_user.Broken")
    assert said.startswith(
        f"s.yaml:{line}: task t: data: data_of_a_user.Broken raised FileNotFoundError: no data here ("
    )
    assert said.endswith("data_of_a_user.py:4)")


# --- what fits neither module nor data ---------------------------------------------------------------------------


LINEAR = {"name": "classifier", "net": "linear"}


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_recipe_that_cannot_begin_is_refused_and_no_record_is_moved(refused, place, finished, dry):
    shutil.copytree(finished, place / "run")
    recipes = {"sgd": {**RECIPES["sgd"], "batch": 32}, "dropout": {"base": "sgd", "regularizers": ["dropout"]}}
    (place / "s.yaml").write_text(dump_yaml(make_data(recipes, module=LINEAR)))
    line = 1 + (place / "s.yaml").read_text().splitlines().index("  dropout:")
    said = refused("run", "s.yaml", "--out", "run", *dry)
    assert said.startswith(f"s.yaml:{line}: recipe dropout on task t: dropout: Classifier has no dropout layer")


def test_where_a_field_comes_from_its_base_the_line_is_the_bases(refused, place):
    recipes = {"large": {"optimizer": "sgd", "batch": 5000}, "sgd": {"base": "large", "optimizer": "adamw"}}
    data = make_data(recipes)
    (place / "s.yaml").write_text(dump_yaml(data))
    line = 1 + (place / "s.yaml").read_text().splitlines().index("    batch: 5000")
    said = refused("run", "s.yaml", "--only", "sgd")
    assert said.startswith(f"s.yaml:{line}: recipe sgd on task t: batch: a batch of 5000 samples")


@pytest.mark.parametrize(
    ("changes", "at", "said"),
    [
        (
            {"metric": "accurracy", "mode": "max"},
            "metric",
            "metric 'accurracy'; it logs val/accuracy, val/loss; did you mean accuracy?",
        ),
        ({"metric": "accurracy"}, "", "say whether 'accurracy' is to be max or min; did you mean accuracy?"),
        ({"metric": "mse"}, "metric", "Classifier logs no validation metric 'mse'; it logs val/accuracy, val/loss"),
        ({"data": "diabetes"}, "module", "a classifier needs class numbers; the targets of Diabetes are float32"),
        (
            {"module": "regressor", "metric": "mse"},
            "module",
            "a regressor needs numbers to come close to; Digits has 10",
        ),
        (
            {"data": {"name": "digits", "batch_size": 5000}},
            "data",
            "data.batch_size: a batch of 5000 samples; the train",
        ),
        ({"module": {"name": "classifier", "recipe": "sgd"}}, "module", "recipe: is what a suite's recipes bring"),
    ],
)
def test_a_task_whose_parts_do_not_fit_is_refused(refused, place, changes, at, said):
    data = make_data(RECIPES)
    data["tasks"]["t"] |= changes
    (place / "s.yaml").write_text(dump_yaml(data))
    message = refused("run", "s.yaml")
    assert said in message
    if at:
        first = int(message.split(":")[1]) - 1
        text = "\n".join((place / "s.yaml").read_text().splitlines()[first:])
        assert text.lstrip().startswith((f"{at}:", "batch_size:", "recipe:"))


@pytest.mark.parametrize("data", ["wine", {"name": "diabetes", "val_fraction": 0.1}])
def test_what_fits_is_planned(place, data, capsys):
    """Wine's default batch is larger than its training split, which is no mistake of the suite's."""
    name = "classifier" if data == "wine" else "regressor"
    suite = make_data({"adamw": {}}, data=data, module={"name": name, "net": "linear"})
    suite["tasks"]["t"]["metric"] = "accuracy" if data == "wine" else "val_mse"
    (place / "s.yaml").write_text(dump_yaml(suite))
    assert main(["run", "s.yaml", "--dry-run"]) == 0


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"schedule": {"name": "plateau", "monitor": "val/los"}}, "schedule.monitor: no 'val/los' is logged; did you"),
        ({"regularizers": [{"name": "early_stopping", "monitor": "val/x"}]}, "early_stopping.monitor: no 'val/x' is"),
        ({"regularizers": {"l2": "strong"}}, "recipes.sgd.regularizers: is a list, not a mapping; write [l2] or"),
        (
            {"regularizers": [{"name": "l2", "coefficient": "a"}]},
            "regularizers[0].coefficient: 'a' is not a number",
        ),
        ({"optimizer": {"name": "adamw", "betas": 0.9}}, "betas: 0.9 is not a list, such as [0.9, 0.999]"),
        ({"base": None}, "recipes.sgd.base: is empty; name a recipe, or leave it out"),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused_with_its_line(refused, place, recipe, said):
    write_suite(place, recipe=recipe)
    message = refused("run", "s.yaml")
    assert said in message
    (key,) = recipe
    assert (
        (place / "s.yaml")
        .read_text()
        .splitlines()[int(message.split(":")[1]) - 1]
        .lstrip(" -")
        .startswith((f"{key}:", "monitor:", "coefficient:", "betas:", "sgd:"))
    )


@pytest.mark.parametrize(
    ("hidden", "said"),
    [
        (32, "task t: net mlp.hidden: 32 is not a list, such as [128, 128]"),
        (["a"], "task t: net mlp.hidden: ['a'] is not a list of positive whole numbers, such as [128, 128]"),
    ],
)
def test_a_nets_mistake_is_the_tasks_whatever_the_recipe(refused, place, hidden, said):
    write_suite(place, module={"name": "classifier", "net": {"name": "mlp", "hidden": hidden}})
    (line,) = [n for n, text in enumerate((place / "s.yaml").read_text().splitlines(), 1) if "hidden:" in text]
    assert refused("run", "s.yaml") == f"s.yaml:{line}: {said}"


def test_an_empty_recipe_is_all_defaults(place, capsys):
    """`mine:` with nothing after it, as `mine: {}`."""
    write_suite(place, recipe=None)
    assert main(["run", "s.yaml", "--dry-run"]) == 0
    assert "t  sgd: 1 final trials" in capsys.readouterr().out


# --- the arguments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rum", "digits"], "no command is called 'rum'; did you mean run?"),
        (["run"], "the following arguments are required: SUITE"),
        (["run", "smoke", "--sedes", "3"], "unrecognized arguments: --sedes 3"),
        (["run", "smoke", "--seeds", "0"], "--seeds: 0 seeds; at least 1 is needed"),
        (["run", "smoke", "--seeds", "many"], "argument --seeds"),
        (["run", "smoke", "--workers", "0"], "argument --workers: 0 is not a whole number from 1"),
        (["run", "smoke", "--workers", "two"], "argument --workers: two is not a whole number from 1"),
        (["run", "smoke", "--only", "z*"], "--only: no recipe matches 'z*'; there are adamw, sgd"),
        (["run", "smoke", "--rerun", "some"], "argument --rerun: invalid choice"),
        (["list", "optimisers"], "no kind is called 'optimisers'; did you mean optimizers"),
        (["show", "adamv"], "nothing is called 'adamv'; did you mean adam"),
        (["board", "nowhere"], "nowhere: there is no such run folder"),
        (["board", "x", "--format", "pdf"], "argument --format: invalid choice: 'pdf'"),
        (["compare", "nowhere", "a", "b"], "nowhere: there is no such run folder"),
        (["fit"], "fit: --model and --data are missing; for example: trainoff fit --model classifier --data digits"),
        (["compare", "x"], "the following arguments are required: A, B"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(refused, arguments, said):
    assert said in refused(*arguments)
