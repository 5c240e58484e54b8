"""Choosing a setting: by validation alone, and with as many trials for each recipe."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainoff.benchmarks.plan import Pair
from trainoff.benchmarks.record import Quality, Record, Scores, Splits, TrialFacts
from trainoff.benchmarks.runner import count_trials
from trainoff.benchmarks.suite import load_suite, parse_suite
from trainoff.benchmarks.tuning import Setting, choose

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
