"""A suite at another size: what is changed, what stays, and where a mistake in it stands."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainoff.benchmarks.suite import load_suite, parse_suite
from trainoff.benchmarks.suite_registry import SUITES
from trainoff.benchmarks.suite_scales import at_scale
from trainoff.errors import UserError
from trainoff.running import as_suite

TASK = {
    "module": {"name": "classifier", "net": {"name": "mlp", "hidden": [8]}},
    "data": "digits",
    "metric": "accuracy",
    "budget": {"epochs": 2},
}
SUITE: dict[str, Any] = {
    "name": "sizes",
    "summary": "small",
    "seeds": {"tune": 1, "final": 2},
    "tasks": {"small": TASK, "other": TASK},
    "recipes": {"adam": {"optimizer": "adam"}, "sgd": {"base": "adam", "optimizer": "sgd"}, "default": None},
    "scales": {
        "full": {
            "seeds": {"tune": 2, "final": 5},
            "tasks": {"small": {"budget": {"epochs": 50}}, "other": None, "large": {**TASK, "data": "mnist1d"}},
            "recipes": {"sgd": {"batch": 64}, "default": {"optimizer": "lion"}},
        }
    },
}


def place(*path: str | int) -> str:
    return ".".join(map(str, path)) or "suite"


def write(folder: Path, suite: dict[str, Any]) -> str:
    path = folder / "sizes.yaml"
    path.write_text(yaml.safe_dump(suite, sort_keys=False))
    return str(path)


def test_a_scale_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    before = copy.deepcopy(SUITE)
    small, full = as_suite(SUITE), as_suite(SUITE, "full")
    assert before == SUITE
    assert (small.name, full.name) == ("sizes", "sizes-full")
    assert [task.name for task in full.tasks] == ["small", "large"]
    assert [task.budget.epochs for task in full.tasks] == [50, 2]
    assert full.tasks[0].module == small.tasks[0].module
    assert (full.tune_seeds, full.final_seeds) == ((0, 1), (2, 3, 4, 5, 6))
    assert full.summary == "small"
    settings = {recipe.name: recipe.settings[0].fields for recipe in full.recipes}
    assert settings["adam"] == small.recipes[0].settings[0].fields
    assert (settings["sgd"]["optimizer"], settings["sgd"]["batch"]) == ({"name": "sgd"}, 64)
    assert settings["default"]["optimizer"] == {"name": "lion"}
    assert load_suite(write(tmp_path, SUITE), "full") == full
    assert as_suite(small, "full") == full


def test_what_a_run_keeps_is_the_suite_at_its_scale() -> None:
    full = as_suite(SUITE, "full")
    assert "scales" not in full.data
    assert parse_suite(full.data, place) == full


def test_a_mistake_in_a_scale_is_placed_at_its_own_line(tmp_path: Path) -> None:
    wrong = copy.deepcopy(SUITE)
    wrong["scales"]["full"]["tasks"]["small"] = {"budget": {"epochs": -1}}
    path = write(tmp_path, wrong)
    lines = Path(path).read_text().splitlines()
    number = next(n for n, line in enumerate(lines, 1) if "epochs: -1" in line)
    load_suite(path)  # the small form has no mistake
    with pytest.raises(UserError) as caught:
        load_suite(path, "full")
    assert caught.value.where == f"{path}:{number}: tasks.small.budget.epochs"


@pytest.mark.parametrize(
    ("scale", "message"),
    [("ful", "no scale is called 'ful'; did you mean full"), ("x", "there are full")],
)
def test_an_unknown_scale_is_one_line(scale: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        at_scale(SUITE, scale, place)
    assert caught.value.where == "--scale"


def test_a_suite_of_one_size_says_so() -> None:
    with pytest.raises(UserError, match="this suite has one size"):
        load_suite("smoke", "full")


@pytest.mark.parametrize(
    ("scales", "where"),
    [
        ({"full": {"taks": {}}}, "scales.full.taks"),
        ({"full": {"tasks": [1]}}, "scales.full.tasks"),
        ({"full": {"tasks": {"small": 3}}}, "scales.full.tasks.small"),
        ({"full": {"name": "x"}}, "scales.full.name"),
        ([], "scales"),
    ],
)
def test_wrong_scales_are_refused_also_where_they_are_not_asked_for(scales: Any, where: str) -> None:
    with pytest.raises(UserError) as caught:
        as_suite({**SUITE, "scales": scales})
    assert caught.value.where == where


@pytest.mark.parametrize("name", [entry.name for entry in SUITES if not entry.package])
def test_every_scale_of_a_shipped_suite_is_a_suite(name: str) -> None:
    for scale in load_suite(name).data.get("scales", {}):
        assert load_suite(name, scale).name == f"{name}-{scale}"


WITH_FULL_SIZE = [
    "fashion-mnist",
    "forgetting",
    "gan-tiny",
    "lm-tiny",
    "mlm-tiny",
    "mnist1d",
    "nets",
    "seq2seq-tiny",
    "tabular",
]


@pytest.mark.parametrize("name", WITH_FULL_SIZE)
def test_suites_for_a_laptop_state_their_full_size(name: str) -> None:
    small, full = load_suite(name), load_suite(name, "full")
    assert full.tasks != small.tasks
    assert len(full.final_seeds) >= len(small.final_seeds)
