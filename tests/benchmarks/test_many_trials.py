"""Runs of many trials, none of which trains: what is held at a time, and what is looked at how often."""

from __future__ import annotations

import pytest
from running_suites import make_data, numbers_of, place

from trainoff.benchmarks import runner
from trainoff.benchmarks.executors.choice import ExecutorChoice
from trainoff.benchmarks.executors.measure_executors import plan, suite_data, train_nothing
from trainoff.benchmarks.executors.outcome import Outcome, WorkerDied
from trainoff.benchmarks.known_records import KnownRecords
from trainoff.benchmarks.pairs import make_pairs
from trainoff.benchmarks.sent_trial import SentTrial
from trainoff.benchmarks.store import RunFolder
from trainoff.benchmarks.suite import parse_suite

SGD = {"optimizer": {"name": "sgd", "lr": 0.1}, "batch": 64}
TUNED = {"optimizer": {"name": "sgd", "lr": {"tune": [0.01, 0.02, 0.03, 0.04]}}, "batch": 64}


class Here:
    """An executor that runs everything in this process, and notes how much it was given at a time."""

    at_once, window = 3, 7

    def __init__(self):
        self.waiting = []
        self.most = 0
        self.order = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def submit(self, key, payload, places=1):
        self.waiting.append((key, payload))
        self.most = max(self.most, len(self.waiting))

    def completed(self):
        while self.waiting:
            key, payload = self.waiting.pop(0)
            self.order.append(payload.trial)
            yield self.outcome(key, payload)

    def outcome(self, key, payload):
        return Outcome(key, train_nothing(payload), None, 0.0)


class Losing(Here):
    """Loses the worker of each trial once."""

    def __init__(self):
        super().__init__()
        self.lost = set()

    def outcome(self, key, payload):
        if key in self.lost:
            return super().outcome(key, payload)
        self.lost.add(key)
        return Outcome(key, None, WorkerDied(None), 0.0)


def run(data, folder, executor, rerun=""):
    class Run(runner.Run):
        def executor(self):
            return executor

    suite = parse_suite(data, place)
    pairs = make_pairs(suite)
    with RunFolder(folder) as run_folder:
        runner.claim(run_folder, suite)
        return Run(suite, pairs, run_folder, ExecutorChoice(), rerun, {}, lambda progress: None).run()


def test_trials_are_made_as_they_are_wanted_and_each_leaves_a_record(tmp_path):
    data = make_data({"sgd": SGD, "tuned": TUNED}, seeds={"tune": 5, "final": 40})
    executor = Here()
    progress = run(data, tmp_path, executor)
    assert (progress.done, progress.reused, progress.workers) == (40 + 20 + 40, 0, 3)
    assert executor.most == executor.window
    assert len(numbers_of(tmp_path)) == 100
    # Each recipe's first trial comes first; final trials of a tuned recipe only once all have chosen.
    assert [trial.recipe for trial in executor.order[:2]] == ["sgd", "tuned"]
    tuned = [trial for trial in executor.order if trial.recipe == "tuned"]
    assert [trial.stage for trial in tuned] == ["tune"] * 20 + ["final"] * 40
    scores = {}
    for trial in tuned[:20]:
        scores.setdefault(trial.setting["optimizer"]["lr"], []).append(int(trial.id, 16))
    best = max(scores, key=lambda rate: sum(scores[rate]))
    assert {trial.setting["optimizer"]["lr"] for trial in tuned[20:]} == {best}

    again = Here()
    progress = run(data, tmp_path, again)
    assert (progress.done, progress.reused, again.order) == (0, 100, [])


def test_a_run_goes_on_where_records_are_missing(tmp_path):
    data = make_data({"sgd": SGD, "tuned": TUNED}, seeds={"tune": 2, "final": 10})
    run(data, tmp_path, Here())
    whole = numbers_of(tmp_path)
    for path in sorted((tmp_path / "records").iterdir())[::3]:
        path.unlink()
    executor = Here()
    progress = run(data, tmp_path, executor)
    assert progress.done == len(executor.order) == len(whole) - progress.reused == 10
    assert numbers_of(tmp_path) == whole


def test_a_retried_trial_counts_once(tmp_path):
    executor = Losing()
    progress = run(make_data({"sgd": SGD}, seeds=20), tmp_path, executor)
    assert (progress.done, progress.failed) == (20, 0)
    assert progress.notes == ["workers were killed from outside in 20 trials, tried again"]


def test_looking_for_the_choice_after_each_trial_is_no_square(monkeypatch):
    """Of n tuning trials each look passes over what it has seen: 2n steps in all, where n²/2 were taken."""

    class Counting(dict):
        looks = 0

        def __contains__(self, key):
            Counting.looks += 1
            return super().__contains__(key)

    (pair,) = make_pairs(parse_suite(make_data({"tuned": TUNED}, seeds={"tune": 250, "final": 1}), place))
    pair.records = Counting()
    trials = list(pair.tuning_trials())
    for trial in trials[:-1]:
        assert pair.chosen() is None
        pair.records[trial.id] = train_nothing(SentTrial(trial, 0, "", {}))
    assert pair.chosen() is None
    assert Counting.looks < 4 * len(trials)
    pair.records[trials[-1].id] = train_nothing(SentTrial(trials[-1], 0, "", {}))
    assert pair.chosen() is not None
    del pair.records[trials[7].id]  # set aside meanwhile
    assert pair.chosen() is None


def test_known_records_keep_what_chooses_and_share_what_is_common(tmp_path):
    data = make_data({"sgd": SGD}, seeds=5)
    run(data, tmp_path, Here())
    full, _ = RunFolder(tmp_path).read_all()
    (tmp_path / "records" / "broken.json").write_text("{")
    known = KnownRecords.of(RunFolder(tmp_path))
    assert known.complaints == ["broken.json is skipped: not JSON, or truncated (Input data was truncated)"]
    assert known.records.keys() == full.keys()
    for key, record in known.records.items():
        assert record.trial == full[key].trial
        assert record.status == full[key].status
        assert record.quality.best.val.metric == full[key].quality.best.val.metric
    assert len({id(record.trial.setting) for record in known.records.values()}) == 1


@pytest.mark.slow
def test_planning_a_hundred_thousand_trials_takes_seconds_and_little_memory():
    plan(1_000, 1)
    read, check, first, every, memory = plan(100_000, 1)
    assert read + check + first < 20  # one and a half on an idle machine
    assert every < 60
    assert memory < 100
    assert len(parse_suite(suite_data(100_000, 1_000), place).recipes[0].settings) == 1_000
