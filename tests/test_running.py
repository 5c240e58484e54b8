"""Mistakes in calls of `compare_recipes` and `run`: one line each, before anything is written."""

from __future__ import annotations

import pytest
from users_project import UsersData, UsersModule

import trainoff
from trainoff import Recipe, UserError


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
