"""Small suites, what running them left, and modules that fail in every way: for the tests of whole runs."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time

import torch
from torch.utils.data import TensorDataset, random_split
from users_project import UsersData, UsersModule

from trainoff.benchmarks.executors import control_groups
from trainoff.benchmarks.runner import run_suite
from trainoff.benchmarks.store import RunFolder
from trainoff.benchmarks.suite import parse_suite

MLP = {"name": "classifier", "net": {"name": "mlp", "hidden": [8]}}


def make_data(recipes, *, seeds=1, module=MLP, epochs=1, data="digits", **others):
    """A suite on one task with a tiny budget, as plain data."""
    task = {"module": module, "data": data, "metric": "accuracy", "budget": {"epochs": epochs}}
    return {"name": "small", "seeds": seeds, "tasks": {"t": task}, "recipes": recipes, **others}


def place(*path):
    return ".".join(map(str, path)) or "suite"


def execute(data, folder, *, workers=2, rerun="", only=None, seeds=None):
    """Run it; the last state of the progress."""
    suite = parse_suite(data, place)
    suite = suite if only is None else suite.only(only)
    suite = suite if seeds is None else suite.with_seeds(seeds)
    return run_suite(suite, folder, workers, rerun)


def records_of(folder):
    """All records, by (recipe, stage, seed, learning rate)."""
    records, problems = RunFolder(folder).read_all()
    assert not problems
    named = {}
    for record in records.values():
        trial = record.trial
        named[trial.recipe, trial.stage, trial.seed, trial.setting["optimizer"].get("lr")] = record
    assert len(named) == len(records)
    return named


# What differs between two runs of one trial.
_MEASURED = {"train_seconds", "wall_seconds", "samples_per_second", "step_seconds_p50", "step_seconds_p95"}
_MEASURED |= {"seconds_to_target", "peak_memory_bytes", "trials_beside", "git", "latency_seconds", "resumptions"}
_MEASURED |= {"peak_memory_bytes_by_rank"}


def numbers_of(folder):
    """The records without what a clock or the memory's state decides, by trial id."""
    return {path.stem: _unmeasured(json.loads(path.read_text())) for path in (folder / "records").glob("*.json")}


def _unmeasured(node):
    if isinstance(node, dict):
        return {key: _unmeasured(value) for key, value in node.items() if key not in _MEASURED}
    return [_unmeasured(item) for item in node] if isinstance(node, list) else node


def low_limit(folder, monkeypatch):
    """As if this process belonged to a control group that has used 99 of its 100 MiB."""
    for name, text in {
        "membership": "0::/",
        "memory.max": str(100 * 2**20),
        "memory.current": str(99 * 2**20),
        "memory.events": "oom_kill 0",
    }.items():
        (folder / name).write_text(text)
    monkeypatch.setattr(control_groups, "_MOUNT", folder)
    monkeypatch.setattr(control_groups, "_MEMBERSHIP", folder / "membership")


class Failing(UsersModule):
    """Fails in training; `how` says in which way."""

    def __init__(self, how="raise", step=2):
        super().__init__()
        self.how = how
        self.step = step

    def training_step(self, batch, batch_idx):
        if batch_idx + 1 == self.step:
            self.fail()
        return super().training_step(batch, batch_idx)

    def fail(self):
        if self.how == "raise":
            raise ValueError("no such luck,\nat all")
        if self.how == "exit":
            raise SystemExit(3)
        if self.how == "memory_error":
            raise MemoryError("no room")
        if self.how == "cuda_memory":
            raise torch.OutOfMemoryError("CUDA out of memory")
        if self.how == "allocator":
            torch.empty(10**15)
        if self.how == "hang":
            while True:
                signal.pause()
        if self.how == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "kill_parent":
            os.kill(os.getppid(), signal.SIGKILL)
            signal.pause()
        if self.how == "nan":
            with torch.no_grad():
                next(self.parameters()).fill_(float("nan"))


class FailingRank(Failing):
    """Fails on one of the ranks that train together."""

    def __init__(self, how="raise", step=2, rank=1):
        super().__init__(how, step)
        self.rank = rank

    def fail(self):
        if self.global_rank == self.rank or self.rank == -1:
            if self.how == "hold":
                self.held = torch.ones(100 * 2**20)
                time.sleep(60)
            if self.how == "kill_worker":
                os.kill(multiprocessing.parent_process().pid, signal.SIGKILL)
                signal.pause()
            super().fail()


class SavedData(UsersData):
    """Inputs and targets from a file, split without a seed."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def setup(self, stage):
        self.train_set, self.held_out = random_split(TensorDataset(*torch.load(self.path)), [64, 32])


class Untested(UsersModule):
    """Logs nothing of the task's name."""


__all__ = [
    "Failing",
    "FailingRank",
    "SavedData",
    "Untested",
    "UsersData",
    "execute",
    "low_limit",
    "make_data",
    "numbers_of",
    "records_of",
]
