"""GPUs handed out to workers; no GPU is needed: what counts is which ones a worker sees before CUDA wakes."""

from __future__ import annotations

import os
import signal
import sys
import time

import cloudpickle
import pytest

from trainoff.benchmarks.executors.gpu_slots import device_groups, visible_devices
from trainoff.benchmarks.executors.local import LocalExecutor
from trainoff.errors import UserError

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def seen(what):
    devices = os.environ.get("CUDA_VISIBLE_DEVICES")
    if what == "die":
        os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(0.3)  # so that no worker takes all payloads
    return os.getpid(), devices


def devices_by_worker(payloads, workers, gpus):
    with LocalExecutor(seen, workers, preload=(), gpus=gpus) as executor:
        for number, payload in enumerate(payloads):
            executor.submit(str(number), payload)
        found = [outcome.result for outcome in executor.completed()]
    return [pair for pair in found if pair is not None]


def test_each_worker_has_gpus_of_its_own(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7,8")
    found = devices_by_worker([""] * 8, workers=2, gpus=2)
    assert {devices for _, devices in found} == {"4,5", "6,7"}
    assert len(set(found)) == 2  # one pair of GPUs a worker, for as long as it lives


def test_the_successor_of_a_dead_worker_takes_its_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    found = devices_by_worker(["", "", "die", "die", "", "", ""], workers=2, gpus=1)
    assert {devices for _, devices in found} == {"0", "1"}
    assert len({pid for pid, _ in found}) == 4


def test_more_workers_than_gpus_share_them_unless_told_otherwise(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    found = set(devices_by_worker([""] * 9, workers=3, gpus=None))
    assert sorted(devices for _, devices in found) == ["0", "0", "1"]
    with pytest.raises(UserError, match="gpus: 3 workers with 1 GPU each need 3; there are 2"):
        LocalExecutor(seen, 3, preload=(), gpus=1)


def test_none_hides_them(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert {devices for _, devices in devices_by_worker([""] * 3, workers=1, gpus=0)} == {""}


def test_without_gpus_nothing_is_handed_out(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_devices() == []
    assert device_groups([], 4, None) == ()


def test_devices_are_named_as_the_variable_names_them(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1a, 3,-1")
    assert visible_devices() == ["GPU-1a", "3"]


def test_the_system_is_asked_where_no_variable_says(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\necho "GPU 0: A (UUID: GPU-1)"\necho "GPU 1: A (UUID: GPU-2)"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert visible_devices() == ["0", "1"]
