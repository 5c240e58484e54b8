"""One suite through all executors: the same records, but for times and what a machine says of itself."""

from __future__ import annotations

import os

import pytest
import slurm_stand_in
from running_suites import make_data, numbers_of, place

from trainoff.benchmarks.runner import run_suite
from trainoff.benchmarks.suite import parse_suite

SUITE = make_data(
    {
        "adamw": {"optimizer": {"name": "adamw", "lr": 3e-3}, "batch": 64},
        "sgd": {"optimizer": {"name": "sgd", "lr": {"tune": [0.01, 0.1]}}, "batch": 64, "regularizers": ["dropout"]},
        "wild": {"optimizer": {"name": "sgd", "lr": 1e12}, "batch": 64},
    },
    seeds=2,
)
SUITE["time_limit"] = 300


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    folder = tmp_path_factory.mktemp("local")
    progress = run_suite(parse_suite(SUITE, place), folder, 2)
    assert (progress.done, progress.failed) == (8, 2)
    return numbers_of(folder)


@pytest.mark.slow
def test_ray_gives_the_records_of_the_local_executor(tmp_path, local, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    progress = run_suite(parse_suite(SUITE, place), tmp_path, executor="ray")
    assert (progress.done, progress.failed) == (8, 2)
    assert numbers_of(tmp_path) == local


@pytest.mark.slow
def test_slurm_gives_the_records_of_the_local_executor(tmp_path, local, monkeypatch):
    pytest.importorskip("submitit")
    for name, value in slurm_stand_in.install(tmp_path / "bin").items():
        monkeypatch.setenv(name, value)
    executor = {"name": "slurm", "trials_per_job": 4, "time": 30}
    progress = run_suite(parse_suite(SUITE, place), tmp_path / "run", executor=executor)
    assert (progress.done, progress.failed) == (8, 2)
    assert numbers_of(tmp_path / "run") == local
    assert sorted(os.listdir(tmp_path / "run")) == [".lock", "records", "suite.yaml"]
    assert len(list((tmp_path / "bin" / "state").glob("*.sh"))) <= 4  # arrays, not a job a trial
