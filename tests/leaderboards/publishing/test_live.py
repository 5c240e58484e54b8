"""Runs that are sent while their trials train: the same runs as `publish` makes, and no training waits for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from published_runs import expect_whole
from publishing_records import records
from wandb_server import KEY

from trainoff.benchmarks.record import Curves
from trainoff.benchmarks.store import RunFolder
from trainoff.benchmarks.tracking import CurveSpool
from trainoff.leaderboards.publishing import live
from trainoff.leaderboards.publishing.live import LiveRuns
from trainoff.leaderboards.publishing.publish import publish
from trainoff.leaderboards.publishing.server_check import Account, check

SUITE = """\
name: small
seeds: 2
tasks:
  digits: {module: {name: classifier, net: {name: mlp, hidden: [8]}}, data: digits, metric: accuracy,
           budget: {epochs: 3}}
recipes:
  adamw: {optimizer: {name: adamw, lr: 0.01}}
"""


class Trial:
    """As much of a trial as a tracker asks for."""

    def __init__(self, record):
        self.id = record.trial.id
        self.record = record

    def facts(self):
        return self.record.trial


def train(record, spool, epochs, resumed=0):
    """What the worker does: the callback's own calls, without a training."""
    curves = Curves([], [], [], [], [], [], [], [])
    callback = CurveSpool(spool, curves)
    callback.on_fit_start(SimpleNamespace(is_global_zero=True), None)
    for epoch in range(epochs):
        for name in curves.__struct_fields__:
            getattr(curves, name).append(getattr(record.curves, name)[epoch])
        if epoch >= resumed:
            callback.on_train_epoch_end(None, None)
    callback.teardown(None, None, "fit")


def wait_for(condition, seconds=30.0):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_a_live_run_is_the_run_that_publish_makes(server, folder):
    made = records()
    first, second, failed = made[2], made[3], made[-1]
    with LiveRuns(folder, "p", check("p")) as runs:
        spools = {record.trial.id: runs.begin(Trial(record)) for record in (first, second, failed)}
        train(first, spools[first.trial.id], 2)
        wait_for(lambda: server.runs.get("p"))
        (run,) = server.runs["p"].values()
        assert run.state == "running"
        assert (run.group, run.job_type, run.display_name) == ("digits", "adamw", "adamw on digits, seed 1")
        train(second, spools[second.trial.id], 4)
        for record in (first, second, failed):  # one has rows of two epochs, one of all, and one never began
            runs.end(record)
    expect_whole(server, [first, second, failed])
    events = [json.loads(line) for line in run.lines["wandb-events.jsonl"].values()]
    assert any("system.proc.memory.rssMB" in event for event in events)
    ids = {run.name for run in server.runs["p"].values()}
    done = publish(folder, "p", with_report=False)
    assert (done.uploaded, done.found) == (len(made) - 3, 3)
    expect_whole(server, made)
    assert ids <= {run.name for run in server.runs["p"].values()}


def test_a_trial_that_is_tried_again_goes_on_as_the_same_run(server, folder):
    record = records()[2]
    with LiveRuns(folder, "p", check("p")) as runs:
        train(record, runs.begin(Trial(record)), 3)
        wait_for(lambda: server.runs.get("p"))
        time.sleep(1.0)
        train(record, runs.begin(Trial(record)), 4)  # its worker was killed; the second time it ends
        wait_for(lambda: len([line for line in server.requests if "RunResumeStatus" in line]) == 2)
        runs.end(record)
    expect_whole(server, [record])


@pytest.mark.slow
def test_a_trial_that_is_run_again_is_a_run_of_its_own(server, folder):
    publish(folder, "p", with_report=False)
    made = records()
    record = made[2]
    old = server.run_of("p", record.trial.id)
    record.curves.val_loss[-1] = 0.123
    with LiveRuns(folder, "p", check("p")) as runs:
        train(record, runs.begin(Trial(record)), 4)
        wait_for(lambda: len(server.runs["p"]) > len(made))
        runs.end(record)
        wait_for(lambda: "superseded" in old.tags)
    assert old.values["stage"] == "superseded"
    del server.runs["p"][old.name]
    expect_whole(server, made)


def test_nothing_waits_for_a_server_that_hangs(server, folder, monkeypatch):
    monkeypatch.setattr(live, "_SECONDS_AT_END", 2.0)
    account = check("p")
    server.silent = True
    record = records()[2]
    with LiveRuns(folder, "p", account) as runs:
        start = time.monotonic()
        spool = runs.begin(Trial(record))
        train(record, spool, 4)
        runs.end(record)
        assert time.monotonic() - start < 0.5
        end = time.monotonic()
    assert time.monotonic() - end < 15


def test_a_trial_that_goes_on_from_a_checkpoint_is_whole(server, folder):
    """Its rows begin in the middle, and W&B's steps only grow."""
    record = records()[2]
    with LiveRuns(folder, "p", check("p")) as runs:
        train(record, runs.begin(Trial(record)), 4, resumed=2)
        wait_for(lambda: server.runs.get("p"))
        time.sleep(1.0)
        runs.end(record)
    expect_whole(server, [record])


def test_nothing_waits_for_a_client_that_died(server, folder):
    record = records()[2]
    with LiveRuns(folder, "p", check("p")) as runs:
        runs._client.kill()
        time.sleep(0.2)
        train(record, runs.begin(Trial(record)), 4)
        runs.end(record)


def test_a_spool_that_cannot_be_written_ends_no_training(tmp_path):
    train(records()[2], str(tmp_path / "missing" / "rows.jsonl"), 4)


def test_an_account_shows_no_key():
    assert KEY not in repr(Account("http://server", KEY, "me"))


@pytest.mark.slow
def test_a_whole_run_and_the_same_command_again(server, tmp_path, monkeypatch):
    (tmp_path / "small.yaml").write_text(SUITE)
    command = [sys.executable, "-m", "trainoff", "run", "small.yaml", "--workers", "1", "--out", "run", "--wandb", "p"]

    def run(**changes):
        return subprocess.run(
            command, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1", **changes}, capture_output=True,
            text=True, timeout=240, check=False,
        )  # fmt: skip

    lost = run(WANDB_BASE_URL="http://127.0.0.1:9")
    assert lost.returncode == 2
    assert "2 trials run" in lost.stdout
    assert lost.stderr.count("cannot be reached (Connection refused)") == 2
    assert "the trials run all the same" in lost.stderr
    assert "Traceback" not in lost.stderr
    assert server.runs == {}

    later = run()
    assert later.returncode == 0, later.stderr
    assert "0 trials run, 2 found" in later.stdout
    assert "all 2 runs" in later.stdout
    made = list(RunFolder(tmp_path / "run").read_all()[0].values())
    expect_whole(server, made)

    again = run()
    assert again.returncode == 0
    expect_whole(server, made)
    command[command.index("p")] = "q"  # another project; and another folder, whose trials train live
    command[command.index("run", 4)] = "again"
    assert run().returncode == 0
    expect_whole(server, list(RunFolder(tmp_path / "again").read_all()[0].values()), "q")
