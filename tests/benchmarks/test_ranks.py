"""Trials on two real processes: one record of both, the numbers of one process, and what is left when a rank ends."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing.forkserver
import os
import time
from pathlib import Path

import pytest
from running_suites import execute, make_data, records_of

from trainoff.benchmarks.engines.ranks import train_on_ranks
from trainoff.benchmarks.engines.trainer import Surroundings, train
from trainoff.benchmarks.store import RunFolder
from trainoff.benchmarks.suite import parse_suite
from trainoff.benchmarks.trial import Budget, Trial
from trainoff.benchmarks.worker import run_trial
from trainoff.errors import UserError

pytestmark = pytest.mark.slow

USERS = "users_project.UsersData"
SGD = {"optimizer": {"name": "sgd", "lr": 0.1}, "batch": 32}
DDP = {**SGD, "strategy": {"name": "ddp", "devices": 2}}


def trial_of(recipe, module=None, data=USERS, epochs=2):
    content = make_data({"r": recipe}, module=module or {"class_path": "users_project.UsersModule"}, data=data)
    content["tasks"]["t"] |= {"budget": {"epochs": epochs}, "metric": "accuracy" if data != USERS else "acc"}
    suite = parse_suite(content, lambda *path: "")
    setting = suite.recipes[0].settings[0]
    return Trial("small", suite.tasks[0], "r", setting.fields, {}, "final", 1, "", {})


def failing(how, rank=1, **recipe):
    module = {"class_path": "running_suites.FailingRank", "init_args": {"how": how, "rank": rank}}
    return trial_of({**DDP, **recipe}, module)


def ranks_alive():
    """Processes of the fork server."""
    server = multiprocessing.forkserver._forkserver._forkserver_pid
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if words[0] != "Z":
            parents[int(status.parent.name)] = int(words[1])
    return [pid for pid, parent in parents.items() if parent == server]


def listening():
    """Ports that this process listens on."""
    sockets = set()
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            sockets.add(os.readlink(path))
    tables = [Path(f"/proc/net/{table}").read_text().splitlines()[1:] for table in ("tcp", "tcp6")]
    lines = [line.split() for table in tables for line in table]
    return [words[1] for words in lines if words[3] == "0A" and f"socket:[{words[9]}]" in sockets]


@pytest.fixture(autouse=True)
def nothing_is_left():
    before = listening()
    yield
    deadline = time.monotonic() + 3
    while ranks_alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not ranks_alive()
    assert listening() == before


@pytest.mark.parametrize("strategy", ["ddp", "ddp_spawn"])
def test_the_record_of_two_ranks_says_what_one_process_says(strategy):
    """Anyone's module, which logs without ``sync_dist``, on anyone's DataModule: 96 samples, 32 held out."""
    one = train(trial_of(SGD), Surroundings())
    two = run_trial(trial_of({**SGD, "strategy": {"name": strategy, "devices": 2}}), 0, "", {})
    assert two.status == "ok", two.error
    assert two.environment.devices == 2
    assert two.trial.initial_state_digest == one.trial.initial_state_digest
    assert two.cost.steps == one.cost.steps == 6
    assert two.quality.best.val.metric == one.quality.best.val.metric
    assert two.quality.last.test.metric == one.quality.last.test.metric
    for curve in ("train_loss", "val_loss", "weight_norm"):
        assert getattr(two.curves, curve) == pytest.approx(getattr(one.curves, curve), abs=1e-6), curve
    assert two.quality.last.train.loss == pytest.approx(one.quality.last.train.loss, abs=1e-6)
    assert two.cost.flops_per_sample == one.cost.flops_per_sample
    assert len(two.cost.peak_memory_bytes_by_rank) == 2
    assert two.cost.peak_memory_bytes == max(two.cost.peak_memory_bytes_by_rank)


def test_metrics_of_a_number_of_samples_that_does_not_divide_are_exact():
    """Digits' 359 validation and 360 test samples; the training split is cut to an even number."""
    module = {"name": "classifier", "net": {"name": "mlp", "hidden": [8]}}
    recipe = {**SGD, "batch": 64}
    data = {"name": "digits", "train_samples": 640, "val_fraction": 0.1, "test_fraction": 0.151}
    one = train(trial_of(recipe, module, data), Surroundings())
    two = run_trial(trial_of({**recipe, "strategy": {"name": "ddp", "devices": 2}}, module, data), 0, "", {})
    for part in ("train", "val", "test"):
        for moment in ("best", "last"):
            mine, theirs = (getattr(getattr(r.quality, moment), part) for r in (two, one))
            assert mine.metric == theirs.metric
            assert mine.loss == pytest.approx(theirs.loss, abs=1e-6)
    assert two.curves.train_loss == pytest.approx(one.curves.train_loss, abs=1e-6)


@pytest.mark.parametrize("sizes", [(2, 1), (1, 2)], ids=["FSDP2", "TP"])
def test_a_sharded_trial_says_what_one_process_says(sizes):
    module = {"name": "classifier", "net": {"name": "mlp", "hidden": [16]}}
    recipe = {"optimizer": {"name": "adamw", "lr": 0.003}, "batch": 64, "regularizers": ["l2", "gradient_clip"]}
    data = {"name": "digits", "train_samples": 640, "val_fraction": 0.1, "test_fraction": 0.151}
    mesh = dict(zip(("data_parallel_size", "tensor_parallel_size"), sizes, strict=True))
    sharded = {**recipe, "strategy": {"name": "model_parallel", "devices": 2, **mesh}}
    one = train(trial_of(recipe, module, data, epochs=3), Surroundings())
    two = run_trial(trial_of(sharded, module, data, epochs=3), 0, "", {})
    assert two.status == "ok", two.error
    assert two.trial.initial_state_digest == one.trial.initial_state_digest
    for part in ("train", "val", "test"):
        for moment in ("best", "last"):
            mine, theirs = (getattr(getattr(record.quality, moment), part) for record in (two, one))
            assert mine.metric == theirs.metric
            assert mine.loss == pytest.approx(theirs.loss, abs=1e-5)
    for curve in ("train_loss", "val_loss", "weight_norm"):
        assert getattr(two.curves, curve) == pytest.approx(getattr(one.curves, curve), abs=1e-5), curve
    assert two.cost.parameters == one.cost.parameters
    assert two.cost.optimizer_state_bytes == one.cost.optimizer_state_bytes
    assert two.cost.flops_per_sample == one.cost.flops_per_sample
    assert two.cost.checkpoint_bytes == pytest.approx(one.cost.checkpoint_bytes, rel=0.1)
    assert two.cost.latency_seconds is None


TOKENS = {
    "gpt2": ("language_model", {"width": 8, "depth": 1, "heads": 2, "dropout": 0.0}, "text", "bits_per_byte"),
    "transformer": ("seq2seq", {"width": 8, "depth": 1, "heads": 2, "dropout": 0.0}, "pairs", "exact_match"),
    "seq2seq_lstm": ("seq2seq", {"width": 8}, "pairs", "exact_match"),
}


@pytest.mark.parametrize("net", TOKENS)
def test_nets_for_tokens_are_sharded_and_decode(net):
    kind, arguments, data, metric = TOKENS[net]
    module = {"name": kind, "net": {"name": net, **arguments}}
    data = {"name": "pairs", "kind": "dates", "samples": 400} if data == "pairs" else {"name": "text", "length": 32}
    recipe = {"optimizer": {"name": "sgd", "lr": 0.1}, "batch": 32}
    mesh = {"data_parallel_size": 2, "tensor_parallel_size": 1}
    sharded = {**recipe, "strategy": {"name": "model_parallel", "devices": 2, **mesh}}
    ended = []
    for each in (recipe, sharded):
        trial = trial_of(each, module, data)
        task = dataclasses.replace(trial.task, metric=metric, mode="max", budget=Budget(steps=4))
        ended.append(run_trial(dataclasses.replace(trial, task=task), 0, "", {}))
    one, two = ended
    assert two.status == "ok", two.error
    assert two.quality.last.test.loss == pytest.approx(one.quality.last.test.loss, abs=1e-5)
    assert two.quality.last.test.metric == pytest.approx(one.quality.last.test.metric, rel=1e-5)
    assert two.curves.train_loss == pytest.approx(one.curves.train_loss, abs=1e-5)


@pytest.mark.parametrize(
    ("how", "rank", "status", "kind", "message"),
    [
        ("raise", 1, "crashed", "ValueError", "rank 1: no such luck, at all"),
        ("raise", 0, "crashed", "ValueError", "rank 0: no such luck, at all"),
        ("exit", 1, "crashed", "SystemExit", "rank 1: 3"),
        ("allocator", 1, "out_of_memory", "RuntimeError", "rank 1: "),
        ("segfault", 1, "crashed", "RankDied", "rank 1 was ended by SIGSEGV"),
        ("killed", 0, "crashed", "RankKilled", "rank 0 was ended by SIGKILL"),
        ("nan", 1, "diverged", "Diverged", "rank 1: the loss was nan at step 2"),
    ],
)
def test_a_rank_that_fails_ends_the_trial_with_its_reason(how, rank, status, kind, message):
    began = time.monotonic()
    record = train_on_ranks(failing(how, rank), Surroundings(), {}, 2)
    assert (record.status, record.error.type) == (status, kind)
    assert record.error.message.startswith(message)
    assert time.monotonic() - began < 30


def test_a_mistake_is_told_as_such():
    with pytest.raises(UserError, match="33 does not divide into 1 parts on 2 devices"):
        train_on_ranks(trial_of({**DDP, "batch": 33}), Surroundings(), {}, 2)


def test_a_rank_that_hangs_ends_by_the_time_limit_and_the_next_trial_starts_clean(tmp_path):
    module = {"class_path": "running_suites.FailingRank", "init_args": {"how": "hang"}}
    data = make_data({"r": DDP}, module=module, data=USERS, time_limit=8)
    fine = {"module": {"class_path": "users_project.UsersModule"}, "metric": "acc"}
    data["tasks"]["fine"] = {**data["tasks"]["t"], **fine}
    progress = execute(data, tmp_path)
    assert (progress.done, progress.failed) == (2, 1)
    records = {record.trial.task: record for record in RunFolder(tmp_path).read_all()[0].values()}
    assert {task: record.status for task, record in records.items()} == {"t": "timed_out", "fine": "ok"}
    assert {record.environment.trials_beside for record in records.values()} == {0}  # both workers' places are taken


@pytest.mark.parametrize(("how", "status"), [("killed", "crashed"), ("kill_worker", "interrupted")])
def test_what_is_killed_from_outside_is_tried_once_more(how, status, tmp_path):
    module = {"class_path": "running_suites.FailingRank", "init_args": {"how": how}}
    data = make_data({"r": DDP}, module=module, data=USERS)
    progress = execute(data, tmp_path)
    (record,) = records_of(tmp_path).values()
    assert record.status == status
    assert any("killed from outside in 1 trial" in note for note in progress.notes)


def test_the_memory_of_all_ranks_counts_to_the_limit(tmp_path):
    """Each of two holds 400 MiB: one would be within 700, both are not."""
    module = {"class_path": "running_suites.FailingRank", "init_args": {"how": "hold", "rank": -1}}
    data = make_data({"r": DDP}, module=module, data=USERS, memory_limit="700MB", time_limit=60)
    execute(data, tmp_path)
    (record,) = records_of(tmp_path).values()
    assert record.status == "out_of_memory", record.error
