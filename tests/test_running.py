"""Running from Python on one's own classes, and mistakes in such calls: one line each, before anything is written."""

from __future__ import annotations

import numpy as np
import pytest
from running_suites import records_of
from users_project import UsersData, UsersModule

import trainoff
from trainoff import Recipe, UserError, compare_recipes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"module": UsersModule()}, "module: is an instance of UsersModule; give its class"),
        ({"datamodule": UsersData()}, "datamodule: is an instance of UsersData; give its class"),
        ({"module": UsersData}, "UsersData is not a LightningModule"),
        ({"recipes": "sgd"}, "recipes: is one recipe; give a list of them"),
        ({"recipes": Recipe("sgd")}, "recipes: is one recipe; give a list of them"),
        ({"recipes": []}, "recipes: is empty"),
        ({"recipes": ["sgdd"]}, "no optimizer is called 'sgdd'; did you mean sgd"),
        (
            {"recipes": ["sgd", {"optimizer": "adamw", "regularizers": ["dropout"]}]},
            "UsersModule has no dropout layer",
        ),
        ({"budget": 3}, "budget: 3 is not a mapping; write budget={'epochs': 3}"),
        ({"budget": {"epoch": 3}}, "no key 'epoch' here; did you mean epochs"),
        ({"workers": 0}, "workers: 0 is not a whole number from 1"),
        ({"workers": "two"}, "workers: 'two' is not a whole number from 1"),
        ({"seeds": 0}, "seeds: 0 is not a whole number from 1"),
        ({"module_arguments": [32]}, "module_arguments: [32] is not a mapping"),
        ({"module_arguments": {"width": 3}}, "takes no 'width'"),
    ],
)
def test_compare_recipes_says_what_would_be_right(tmp_path, capfd, changes, said):
    arguments = {"module": UsersModule, "datamodule": UsersData, "recipes": ["sgd"], "metric": "val_acc"}
    with pytest.raises(UserError) as caught:
        trainoff.compare_recipes(**arguments | changes, out=tmp_path / "run")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
    assert capfd.readouterr().out == ""


def test_run_takes_a_worker_or_more(tmp_path):
    with pytest.raises(UserError, match="workers: 0 is not a whole number from 1"):
        trainoff.run("smoke", out=tmp_path / "run", workers=0)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (UsersModule, r"UsersModule is a class; give an instance, such as recipe\.apply\(UsersModule\(\)\)"),
        (UsersData(), "UsersData is not a LightningModule"),
    ],
)
def test_a_recipe_applies_to_an_instance(given, said):
    with pytest.raises(UserError, match=said):
        Recipe("sgd").apply(given)


def test_recipes_with_numpys_numbers_are_compared(tmp_path):
    """As a sweep over `np.logspace` gives them; what the records hold is Python's."""
    low, _, high = np.logspace(-3, -1, 3)
    board = compare_recipes(
        UsersModule,
        UsersData,
        [Recipe({"name": "sgd", "lr": high}, batch=np.int64(32)), {"optimizer": {"name": "adamw", "lr": low}}],
        seeds=1,
        metric="acc",
        budget={"epochs": 1},
        out=tmp_path,
        workers=1,
    )
    assert [row["seeds_ok"] for row in board.to_dicts()] == [1, 1]
    settings = {name: record.trial.setting for (name, *_), record in records_of(tmp_path).items()}
    assert settings["sgd-batch32"]["optimizer"] == {"name": "sgd", "lr": 0.1}
    assert settings["sgd-batch32"]["batch"] == 32
    assert settings["adamw"]["optimizer"] == {"name": "adamw", "lr": 0.001}
