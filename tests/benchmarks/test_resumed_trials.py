"""A long trial that is killed goes on inside itself when the suite is run again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from running_suites import make_data, numbers_of

from trainoff.benchmarks.suite_yaml import dump_yaml

RECIPE = {
    "optimizer": {"name": "adamw", "lr": 3e-3},
    "schedule": "cosine",
    "regularizers": ["ema", "mixup", {"name": "dropout", "p": 0.1}],
    "batch": 64,
}
PATIENCE = 120


def write_suite(folder, epochs=60, **keys):
    data = make_data({"a": RECIPE}, epochs=epochs, **keys)
    folder.mkdir(exist_ok=True)
    (folder / "suite.yaml").write_text(dump_yaml(data))
    return folder / "suite.yaml"


def start(suite, folder):
    command = [sys.executable, "-m", "trainoff", "run", str(suite), "--out", str(folder), "--workers", "1"]
    return subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def complete(suite, folder):
    _, errors = start(suite, folder).communicate(timeout=PATIENCE)
    assert "Traceback" not in errors, errors


def kill_in_mid_trial(suite, folder, after):
    """Kill the runner when the trial's checkpoint has been written so many times; the epoch that it was of."""
    running, seen = start(suite, folder), set()
    deadline = time.monotonic() + PATIENCE
    while len(seen) < after:
        assert time.monotonic() < deadline
        assert running.poll() is None
        seen |= {(path.name, path.stat().st_mtime_ns) for path in folder.glob("checkpoints/*.ckpt")}
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    (path,) = folder.glob("checkpoints/*.ckpt")
    return torch.load(path, weights_only=True)["epoch"]


@pytest.mark.slow
def test_killed_twice_it_ends_as_if_nothing_had_been(tmp_path):
    suite = write_suite(tmp_path / "given", checkpoint_every={"epochs": 1})
    complete(suite, tmp_path / "undisturbed")
    folder = tmp_path / "killed"
    first, second = (kill_in_mid_trial(suite, folder, after) for after in (3, 4))
    assert second > first  # it did not begin again
    complete(suite, folder)
    assert numbers_of(folder) == numbers_of(tmp_path / "undisturbed")
    (record,) = (json.loads(path.read_text()) for path in folder.glob("records/*.json"))
    assert record["environment"]["resumptions"] == 2
    assert record["cost"]["wall_seconds"] >= record["cost"]["train_seconds"]
    assert not list(folder.glob("checkpoints/*"))
    assert not list(folder.rglob(".trainoff-*"))


@pytest.mark.slow
def test_a_checkpoint_of_other_versions_or_of_nothing_is_not_gone_on_from(tmp_path):
    suite = write_suite(tmp_path / "given", checkpoint_every={"epochs": 1})
    complete(suite, tmp_path / "undisturbed")
    for number, content in enumerate((b"", b"x" * 1000, None)):
        folder = tmp_path / str(number)
        kill_in_mid_trial(suite, folder, 2)
        (path,) = folder.glob("checkpoints/*.ckpt")
        if content is None:
            checkpoint = torch.load(path, weights_only=True)
            checkpoint["callbacks"]["TrialCheckpoints"]["packages"]["torch"] = "1.0"
            torch.save(checkpoint, path)
        else:
            path.write_bytes(content)
        complete(suite, folder)
        assert numbers_of(folder) == numbers_of(tmp_path / "undisturbed")
        (record,) = (json.loads(path.read_text()) for path in folder.glob("records/*.json"))
        assert record["environment"]["resumptions"] == 0


def test_a_short_trial_keeps_none(tmp_path):
    suite = write_suite(tmp_path / "given", epochs=1)
    complete(suite, tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        ".lock",
        "board.html",
        "board.md",
        "records",
        "suite.yaml",
    ]
