"""Every setting is begun before a run writes anything; what a rehearsal leaves, and what it leaves to the trials."""

from __future__ import annotations

import os
import random
import signal
import threading

import numpy as np
import pytest
import torch
from running_suites import UsersData, UsersModule, execute, make_data, place, records_of
from torch.utils.data import DataLoader

from trainoff.benchmarks import pairs, rehearsal
from trainoff.benchmarks.pairs import checked_pairs
from trainoff.benchmarks.rehearsal import rehearse
from trainoff.benchmarks.store import RunFolder
from trainoff.benchmarks.suite import parse_suite
from trainoff.errors import UserError
from trainoff.modules import strategy_requirements

SGD = {"optimizer": {"name": "sgd", "lr": 0.1}, "batch": 32}
TUNED = {"optimizer": {"name": "sgd", "lr": {"tune": [0.01, 0.1]}}}
EXCEPTIONS = {"ValueError": ValueError, "KeyboardInterrupt": KeyboardInterrupt, "UserError": UserError}
calls = []


class Watched(UsersModule):
    """Notes how far it comes."""

    def __init__(self, raises=""):
        super().__init__()
        self.raises = raises

    def on_train_start(self):
        calls.append(("start", self.trainer.estimated_stepping_batches, str(self.trainer.strategy.root_device)))
        print("text that would spoil JSON")
        if self.raises:
            raise EXCEPTIONS[self.raises]("no")

    def training_step(self, batch, batch_idx):
        calls.append("step")
        return super().training_step(batch, batch_idx)


class WatchedData(UsersData):
    """Notes what is asked of it; its loaders would start processes."""

    def setup(self, stage):
        calls.append(("setup", stage))

    def teardown(self, stage):
        calls.append("teardown")

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True, num_workers=2, timeout=5)


def suite_of(recipes, raises="", **others):
    module = {"class_path": f"{__name__}.Watched", "init_args": {"raises": raises}}
    data = make_data(recipes, module=module, data=f"{__name__}.WatchedData", **others)
    data["tasks"]["t"]["metric"] = "val_acc"
    return data


def check(recipes, **others):
    calls.clear()
    return checked_pairs(parse_suite(suite_of(recipes, **others), place), {})


def test_each_setting_is_begun_on_data_that_are_set_up_once():
    """96 samples: three steps of 32, and six of the DataModule's own 16, which the former recipe left alone."""
    check({"sgd": SGD, "own": {"optimizer": "sgd"}, "tuned": TUNED})
    assert calls[0] == ("setup", "fit")
    # each recipe's first setting before the others
    assert calls[1:] == [("start", steps, "cpu") for steps in (3, 6, 6, 6)]


def test_nothing_is_left_behind(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    check({"sgd": SGD})
    threads, states = threading.active_count(), (torch.get_rng_state(), np.random.get_state()[1], random.getstate())
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    check({"sgd": SGD, "tuned": TUNED, "two": {**SGD, "regularizers": ["l2"]}})
    assert threading.active_count() == threads
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    assert random.getstate() == states[2]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert not torch.cuda.is_initialized()
    assert not os.listdir(tmp_path)
    assert capfd.readouterr() == ("", "")


def test_only_a_users_mistake_refuses():
    with pytest.raises(UserError, match=r"^recipe sgd on task t: no$"):
        check({"sgd": SGD}, raises="UserError")
    check({"sgd": SGD}, raises="ValueError")
    assert calls[-1][0] == "start"


def test_ctrl_c_stays_ctrl_c():
    """Lightning would make an exit of status 1 of it."""
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        check({"sgd": SGD}, raises="KeyboardInterrupt")
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.slow
def test_what_has_its_records_is_not_begun(tmp_path, monkeypatch):
    begun = []

    def note(trial, datamodule):
        begun.append((trial.recipe, trial.stage, trial.setting["optimizer"]["lr"]))
        rehearse(trial, datamodule)

    monkeypatch.setattr(pairs, "rehearse", note)
    data = make_data({"sgd": SGD, "tuned": TUNED})
    execute(data, tmp_path)
    assert begun == [("sgd", "final", 0.1), ("tuned", "tune", 0.01), ("tuned", "tune", 0.1)]
    begun.clear()
    execute(data, tmp_path)
    assert begun == []
    execute(data, tmp_path, seeds=2)
    chosen = max((0.01, 0.1), key=lambda lr: records_of(tmp_path)["tuned", "tune", 0, lr].quality.best.val.metric)
    assert begun == [("sgd", "final", 0.1), ("tuned", "final", chosen)]
    begun.clear()
    execute(data, tmp_path, rerun="all")
    assert len(begun) == 3


def test_a_long_rehearsal_ends_early(monkeypatch):
    monkeypatch.setattr(pairs, "_MOST_SECONDS", -1.0)
    check({"sgd": SGD}, raises="UserError")
    assert calls == [("setup", "fit")]


def test_several_devices_are_begun_as_one_without_starting_processes():
    for strategy in ("ddp", "ddp_spawn"):
        calls.clear()
        check({"two": {**SGD, "strategy": {"name": strategy, "devices": 2}}})
        assert calls[0] == ("setup", "fit")
        assert calls[-1][0] == "start"
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            {"strategy": {"name": "fsdp", "devices": 2}},
            "strategy: 'fsdp' runs on GPUs only, and there is none; on CPUs",
        ),
        ({"strategy": "deepspeed"}, "strategy: 'deepspeed' needs the package deepspeed, which is not installed"),
        ({"strategy": "xla"}, "strategy: 'xla' needs the package torch_xla, which is not installed"),
        (
            {"strategy": {"name": "ddp", "devices": 3}, "batch": 64},
            "batch: a batch of 64 cannot be shared equally by 3",
        ),
        (
            {"strategy": {"name": "ddp", "devices": 2, "nodes": 2}},
            "strategy.nodes: asks for 2 nodes; a suite's trial trains on one machine.",
        ),
    ],
)
def test_what_a_strategy_lacks_is_said_before_anything_is_trained(recipe, message, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr(strategy_requirements, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=f"recipe r on task t: {message}"):
        check({"r": {**SGD, **recipe}})
    assert calls == [("setup", "fit")]


@pytest.mark.parametrize(
    ("module", "data", "recipe", "message"),
    [
        (
            {"class_path": "running_suites.UsersModule"},
            "running_suites.UsersData",
            {},
            "UsersModule has no conf",
        ),
        (
            "gan",
            "digits",
            {"batch": 64},
            "strategy: GAN trains parts of its net by turns",
        ),
        ({"name": "classifier", "net": "linear"}, "digits", {}, "strategy.tensor_parallel_size: Linear has no layers"),
        (
            {"name": "classifier", "net": {"name": "mlp", "hidden": [9]}},
            "digits",
            {},
            "2 devices do not divide 9",
        ),
    ],
)
def test_what_does_not_shard_is_said_before_anything_is_trained(module, data, recipe, message):
    strategy = {"name": "model_parallel", "devices": 2, "data_parallel_size": 1, "tensor_parallel_size": 2}
    suite = make_data({"r": {"optimizer": "sgd", **recipe, "strategy": strategy}}, module=module, data=data)
    if module == "gan":
        suite["tasks"]["t"] |= {"metric": "frechet_distance", "mode": "min"}
    with pytest.raises(UserError, match=message):
        checked_pairs(parse_suite(suite, place), {})


def test_loaders_start_no_processes(monkeypatch):
    def refuse(loader):
        raise UserError("a process is started")

    monkeypatch.setattr(torch.utils.data.dataloader, "_MultiProcessingDataLoaderIter", refuse)
    check({"sgd": SGD})
    assert calls[-1][0] == "start"


def test_a_precision_that_needs_an_accelerator_is_left_to_the_trials_where_there_is_one(monkeypatch):
    recipes = {"half": {**SGD, "precision": "16-mixed"}}
    monkeypatch.setattr(rehearsal.CUDAAccelerator, "is_available", lambda: False)
    with pytest.raises(UserError, match="recipe half on task t: precision: 16-mixed needs an accelerator"):
        check(recipes)
    monkeypatch.setattr(rehearsal.CUDAAccelerator, "is_available", lambda: True)
    check(recipes)
    assert calls[-1] == ("start", 3, "cpu")


def test_a_crash_on_the_way_becomes_the_trials_record(tmp_path):
    progress = execute(suite_of({"sgd": SGD}, raises="ValueError"), tmp_path)
    assert progress.failed == 1
    (record,) = RunFolder(tmp_path).read_all()[0].values()
    assert (record.status, record.error.message) == ("crashed", "no")
