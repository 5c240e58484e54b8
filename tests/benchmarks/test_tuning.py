"""Choosing a setting: by validation alone, and with as many trials for each recipe."""

from __future__ import annotations

import copy
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainoff.benchmarks.pairs import Pair
from trainoff.benchmarks.record import Quality, Record, Scores, Splits, TrialFacts
from trainoff.benchmarks.runner import count_trials
from trainoff.benchmarks.suite import load_suite, parse_suite
from trainoff.benchmarks.tuning import Setting, choose, settings_of

NUMBERS = st.floats(-1e6, 1e6)
ANYTHING = st.none() | st.floats(-1e6, 1e6)


def make_record(val, mode="max", status="ok", other=0.5):
    best = Splits(train=Scores(other, other), val=Scores(val, 0.1), test=Scores(other, other))
    facts = TrialFacts(id="x", suite="s", task="t", recipe="r", stage="tune", seed=0, setting={})
    return Record(trial=facts, status=status, quality=Quality("accuracy", mode, 1, best, copy.deepcopy(best)))


def make_settings(count):
    return [Setting({"optimizer": {"name": "sgd", "lr": float(i)}}, {"optimizer.lr": float(i)}) for i in range(count)]


def choice(*columns, mode="max"):
    return choose(make_settings(len(columns)), [[make_record(value, mode) for value in column] for column in columns])


def test_the_best_mean_over_the_tuning_seeds_wins():
    assert choice([0.9, 0.1], [0.6, 0.6], [0.5, 0.5]) == 1
    assert choice([0.9, 0.1], [0.6, 0.6], [0.2, 0.5], mode="min") == 2


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_first_wins_a_tie(mode):
    assert choice([0.5], [0.7], [0.7], mode="max") == 1
    assert choice([0.7], [0.7], [0.7], mode=mode) == 0


def test_a_setting_with_a_failed_seed_loses_to_any_without():
    records = [[make_record(0.99), make_record(0.99, status="diverged")], [make_record(0.1), make_record(0.1)]]
    assert choose(make_settings(2), records) == 1


@pytest.mark.parametrize("status", ["diverged", "out_of_memory", "timed_out", "crashed", "interrupted"])
def test_nothing_is_chosen_where_all_failed(status):
    assert choose(make_settings(2), [[make_record(0.9, status=status)]] * 2) is None


def test_a_metric_that_was_not_finite_counts_as_failed():
    assert choice([None], [0.1]) == 1
    assert choose(make_settings(1), [[]]) is None


@given(data=st.data(), mode=st.sampled_from(["max", "min"]))
def test_test_and_train_numbers_change_no_choice(data, mode):
    """Whatever stands in test, train, the last epoch, the losses, the gaps and the costs: the choice is the same."""
    seeds = data.draw(st.integers(1, 3))
    values = data.draw(st.lists(st.lists(NUMBERS, min_size=seeds, max_size=seeds), min_size=1, max_size=5))
    records = [[make_record(value, mode) for value in column] for column in values]
    before = choose(make_settings(len(values)), records)
    for record in (record for column in records for record in column):
        for splits in (record.quality.best, record.quality.last):
            for scores in (splits.train, splits.test):
                scores.metric, scores.loss = data.draw(ANYTHING), data.draw(ANYTHING)
        record.quality.last.val.metric = data.draw(ANYTHING)
        record.overfitting.gap_metric = data.draw(ANYTHING)
        record.cost.train_seconds = data.draw(ANYTHING)
    assert choose(make_settings(len(values)), records) == before
    assert before is not None


@given(values=st.lists(NUMBERS, min_size=1, max_size=6))
def test_the_choice_is_the_first_best(values):
    assert choice(*[[value] for value in values]) == values.index(max(values))
    assert choice(*[[value] for value in values], mode="min") == values.index(min(values))


def make_pair(suite, recipe, **arguments):
    return Pair(suite, suite.tasks[0], recipe, "data", {}, **arguments)


@pytest.mark.parametrize("name", ["digits", "overfit", "smoke"])
def test_each_recipe_has_as_many_trials_as_is_counted(name):
    """Every tuned recipe of a suite is given the same number of tuning trials, and every one the same final ones."""
    suite = load_suite(name)
    tuning, final = {}, {}
    for recipe in suite.recipes:
        pair = make_pair(suite, recipe)
        tuning[recipe.name] = sum(map(len, pair.tuning()))
        for trials in pair.tuning():
            pair.records |= {trial.id: make_record(0.5) for trial in trials}
        final[recipe.name] = len(pair.final())
    assert len(set(tuning.values()) - {0}) == 1
    assert set(final.values()) == {len(suite.final_seeds)}
    assert sum(tuning.values()) + sum(final.values()) == count_trials(suite)


def test_final_trials_wait_for_all_tuning_trials_and_follow_their_choice():
    suite = parse_suite(
        {
            "name": "s",
            "seeds": {"tune": 2, "final": 2},
            "tasks": {"t": {"module": "classifier", "data": "digits", "metric": "accuracy", "budget": {"epochs": 1}}},
            "recipes": {"r": {"optimizer": {"name": "sgd", "lr": {"tune": [0.1, 0.2, 0.3]}}}},
        },
        lambda *path: str(path),
    )
    pair = make_pair(suite, suite.recipes[0])
    trials = [trial for trials in pair.tuning() for trial in trials]
    assert len({trial.id for trial in trials}) == 6
    for number, trial in enumerate(trials):
        assert pair.final() is None
        # The middle one is best on validation, the first on test.
        middle = trial.tuned["optimizer.lr"] == 0.2
        pair.records[trial.id] = make_record(0.9 if middle else 0.1, other=0.0 if middle else 1.0 - number / 10)
    final = pair.final()
    assert [(trial.stage, trial.seed, trial.tuned) for trial in final] == [
        ("final", seed, {"optimizer.lr": 0.2}) for seed in (2, 3)
    ]
    assert not {trial.id for trial in final} & {trial.id for trial in trials}


def test_where_each_setting_failed_the_first_goes_on():
    suite = load_suite("smoke")
    pair = make_pair(suite, suite.recipes[1])
    pair.records = {t.id: make_record(None, status="diverged") for trials in pair.tuning() for t in trials}
    assert {trial.setting["optimizer"]["lr"] for trial in pair.final()} == {0.01}


RATE = {"tune": {"min": 1e-4, "max": 1e-1, "log": True, "points": 3}}
DECAY = {"tune": {"min": 0.0, "max": 1.0}}


def sobol_settings(fields, points):
    return settings_of(fields, lambda *path: str(path), points)


@given(points=st.integers(2, 70))
def test_a_sequence_gives_each_recipe_as_many_settings_whatever_it_tunes(points):
    one = sobol_settings({"optimizer": {"name": "sgd", "lr": RATE}}, points)
    three = sobol_settings(
        {"optimizer": {"name": "sgd", "lr": RATE, "momentum": {"tune": [0.0, 0.9]}, "weight_decay": DECAY}}, points
    )
    for settings in (one, three):
        assert len({repr(setting.tuned) for setting in settings}) == len(settings) == points
        assert all(1e-4 <= setting.tuned["optimizer.lr"] <= 1e-1 for setting in settings)
    assert {setting.tuned["optimizer.momentum"] for setting in three} <= {0.0, 0.9}


@given(power=st.integers(1, 6))
def test_a_power_of_two_of_points_has_one_in_each_slice_of_a_range(power):
    """The property that makes a sequence of Sobol's balanced (a (t, m, s)-net's projections), on a log scale too."""
    points = 2**power
    settings = sobol_settings({"optimizer": {"lr": RATE, "weight_decay": DECAY}}, points)
    rates = [math.log10(setting.tuned["optimizer.lr"] / 1e-4) / 3 for setting in settings]
    decays = [setting.tuned["optimizer.weight_decay"] for setting in settings]
    for shares in (rates, decays):
        # Values have six digits, which can move one over a slice's edge by a hair.
        assert sorted(int(share * points + 1e-4) for share in shares) == list(range(points))


def test_the_points_are_those_of_scipy_and_spread_better_than_a_grid_of_as_many():
    from scipy.stats.qmc import Sobol, discrepancy

    fields = {"optimizer": {"lr": DECAY, "weight_decay": DECAY}}
    values = [list(setting.tuned.values()) for setting in sobol_settings(fields, 16)]
    assert values == pytest.approx(Sobol(2, seed=0).random(16), abs=1e-6)
    grid = [[a / 3, b / 3] for a in range(4) for b in range(4)]
    assert discrepancy(values) < discrepancy(grid) / 4


def test_lists_with_fewer_combinations_than_points_are_tried_in_full():
    fields = {"optimizer": {"lr": {"tune": [0.1, 1.0]}}, "regularizers": {"tune": [[], ["l2"]]}}
    assert sobol_settings(fields, 8) == settings_of(fields, lambda *path: str(path))
    assert len(sobol_settings(fields, 4)) == 4
    assert len(sobol_settings(fields, 3)) == 3
    assert sobol_settings({"optimizer": "sgd"}, 8) == [Setting({"optimizer": "sgd"}, {})]


def test_each_recipe_of_a_suite_gets_the_sequence_that_the_suite_names():
    data = {
        "name": "s",
        "tuning": {"name": "sobol", "points": 4},
        "tasks": {"t": {"module": "classifier", "data": "digits", "metric": "accuracy", "budget": {"epochs": 1}}},
        "recipes": {
            "none": {},
            "one": {"optimizer": {"name": "sgd", "lr": RATE}},
            "two": {"optimizer": {"name": "sgd", "lr": RATE, "momentum": {"tune": [0.0, 0.5, 0.9]}}},
        },
    }

    def counts(tuning):
        suite = parse_suite({**data, "tuning": tuning}, lambda *path: str(path))
        return [len(recipe.settings) for recipe in suite.recipes]

    assert counts({"name": "sobol", "points": 4}) == [1, 4, 4]
    assert counts("sobol") == [1, 8, 8]
    assert counts("grid") == [1, 3, 9]
