"""The method cards: one for each method, as registry and committed numbers have it, and the numbers as defined."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from trainoff.benchmarks.record import Cost, Environment, Overfitting, Quality, Record, Scores, Splits, TrialFacts
from trainoff.benchmarks.suite import load_suite

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "methods"


def script(name):
    """A script of the folder as a module."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cards, measuring = script("make_method_cards"), script("measure_methods")
FIELDS = {
    "optimizers": "optimizer",
    "schedules": "schedule",
    "initialisations": "initialisation",
    "pruning": "pruning",
}
SUITES = ["method-cards", "method-cards-residual"]


def test_the_pages_are_those_of_the_registries_and_the_numbers():
    measured = cards.read_measured()
    made_with = {name: number for task in measured["tasks"].values() for name, number in task["packages"].items()}
    installed = {name: version(name).partition("+")[0] for name in ("torch", "pytorch_optimizer")}
    other = {name: number for name, number in installed.items() if number != made_with.get(name)}
    if other:
        pytest.skip(f"the pages show the defaults of other versions than {other}")
    pages = cards.pages(measured)
    on_disk = {path.relative_to(FOLDER) for path in FOLDER.rglob("*.md")}
    assert on_disk == set(pages)
    stale = [str(path) for path, text in pages.items() if (FOLDER / path).read_text(encoding="utf-8") != text]
    assert not stale, "run python docs/methods/make_method_cards.py"


def test_every_method_is_measured_or_says_why_not():
    recipes = {recipe.name for name in SUITES for recipe in load_suite(name).recipes} - {"baseline"}
    reasons = {key: cards.reason_not_measured(key, entry) for key, (_, entry) in cards.cards().items()}
    assert recipes == {key for key, reason in reasons.items() if not reason}
    measured = cards.read_measured()["methods"]
    assert set(measured) <= recipes


@pytest.mark.parametrize("name", SUITES)
def test_a_recipe_of_the_suite_is_the_baseline_with_the_method_that_it_is_named_after(name):
    recipes = {recipe.name: recipe.settings[0].fields for recipe in load_suite(name).recipes}
    baseline = recipes.pop("baseline")
    for recipe, fields in recipes.items():
        kind, _, method = recipe.partition(".")
        changed = {key for key in {*baseline, *fields} if baseline.get(key) != fields.get(key)}
        if kind == "batch_regimes":
            assert changed == {"microbatches" if method == "micro_batches" else "batch"}
        elif kind == "regularizers":
            assert [choice["name"] for choice in fields["regularizers"]] == [method]
            assert changed - {"optimizer"} == {"regularizers"}
        else:
            assert fields[FIELDS[kind]]["name"] == method
            assert changed - {"optimizer"} == {FIELDS[kind]} - {"optimizer"}


def make_record(recipe, seed, test, train, seconds, status="ok"):
    best = Splits(train=Scores(train, 0.1), val=Scores(0.5, 0.2), test=Scores(test, 0.3))
    return Record(
        trial=TrialFacts(
            id=f"{recipe}-{seed}", suite="s", task="t", recipe=recipe, stage="final", seed=seed, setting={}
        ),
        status=status,
        environment=Environment({"torch": "2"}, "3", "p", "a processor", "cpu"),
        quality=Quality("accuracy", "max", 1, best, best),
        overfitting=Overfitting(gap_metric=train - test),
        cost=Cost(train_seconds=seconds),
    )


def test_changes_are_paired_differences_with_t_intervals():
    generator = np.random.default_rng(0)
    base, method = generator.uniform(0.5, 0.6, 6), generator.uniform(0.55, 0.7, 6)
    train = generator.uniform(0.8, 0.9, (2, 6))
    seconds = generator.uniform(1, 2, (2, 6))
    records = [make_record("baseline", s, base[s], train[0, s], seconds[0, s]) for s in range(6)]
    records += [make_record("regularizers.l2", s, method[s], train[1, s], seconds[1, s]) for s in (5, 3, 4, 0, 1, 2)]
    facts = measuring.measure(records)["methods"]["regularizers.l2"]["t"]
    wanted = {
        "metric": method - base,
        "gap": (train[1] - method) - (train[0] - base),
        "log_seconds": np.log(seconds[1] / seconds[0]),
    }
    for key, differences in wanted.items():
        low, high = stats.t.interval(0.95, 5, differences.mean(), stats.sem(differences))
        mean, margin, count = facts[key]
        assert count == 6
        assert [mean - margin, mean + margin] == pytest.approx([low, high], abs=2e-6)


def test_failed_seeds_take_no_part_and_are_said():
    records = [make_record("baseline", s, 0.5, 0.6, 1.0) for s in range(4)]
    records += [make_record("optimizers.sgd", s, 0.6 + s / 100, 0.6, 2.0) for s in range(3)]
    records.append(make_record("optimizers.sgd", 3, 0.0, 0.6, 2.0, status="diverged"))
    facts = measuring.measure(records)["methods"]["optimizers.sgd"]["t"]
    assert facts["failed"] == {"diverged": 1}
    assert facts["metric"][2] == 3
    assert facts["metric"][0] == pytest.approx(0.11)
    assert facts["log_seconds"] == [pytest.approx(math.log(2), abs=1e-6), 0.0, 3]


@pytest.mark.parametrize(
    ("metric", "mode", "expected"),
    [
        ([0.02, 0.01, 8], "max", "better"),
        ([0.02, 0.01, 8], "min", "worse"),
        ([-0.02, 0.01, 8], "max", "worse"),
        ([0.02, 0.03, 8], "max", "open"),
        ([0.02, None, 2], "max", "failed"),
        (None, "max", "failed"),
    ],
)
def test_a_verdict_is_where_the_interval_lies(metric, mode, expected):
    assert cards.outcome({"metric": metric}, mode) == expected


def test_a_card_says_when_a_method_did_not_help():
    measured = {
        "tasks": {"t": {"mode": "max"}},
        "methods": {
            "regularizers.l2": {
                "t": {
                    "metric": [-0.004, 0.011, 8],
                    "gap": [-0.02, 0.01, 8],
                    "log_seconds": [0.1, 0.02, 8],
                    "tuned": {},
                }
            }
        },
    }
    kind, entry = cards.cards()["regularizers.l2"]
    page = cards.page("regularizers.l2", kind, entry, measured)
    assert "It did not help here. No change that these seeds can tell on t." in page
    assert "| t | -0.004 ± 0.011 | -0.020 ± 0.010 | × 1.11 (1.08 to 1.13) | – |" in page


def test_the_numbers_are_written_as_they_are_read():
    measured = cards.read_measured()
    assert json.loads(measuring.to_json(measured)) == measured
