"""SLURM's executor against submitit's local executor and against a stand-in for SLURM's commands."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import cloudpickle
import pytest
import slurm_stand_in

from trainoff.benchmarks.executors.outcome import Raised, TimedOut, WorkerDied
from trainoff.benchmarks.executors.resources import Resources
from trainoff.benchmarks.executors.slurm import SlurmExecutor
from trainoff.benchmarks.executors.slurm_options import job_parameters, minutes_of
from trainoff.errors import UserError

pytest.importorskip("submitit")
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def act(what):
    if what == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "hang":
        time.sleep(60)
    if what == "raise":
        raise ValueError("no such luck")
    if what == "variables":
        return sorted(name for name in os.environ if name.startswith(("SLURM_JOB", "SLURM_NTASKS", "SUBMITIT")))
    if isinstance(what, Path):  # slow the first time
        if not what.exists():
            what.touch()
            time.sleep(60)
        return "again"
    return what


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """The stand-in's state folder, its commands first on PATH."""
    for name, value in slurm_stand_in.install(tmp_path / "bin").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("trainoff.benchmarks.executors.slurm._SECONDS_TO_APPEAR", 1.0)  # no network file system
    state = tmp_path / "bin" / "state"
    yield state
    for path in state.glob("*.json"):
        with contextlib.suppress(KeyError, ProcessLookupError):
            os.killpg(slurm_stand_in.state_of(state, path.stem)["group"], signal.SIGKILL)


def executor(folder, cluster="slurm", limit=30, **options):
    return SlurmExecutor(
        act, Resources(time_limit=limit), folder, options, cluster=cluster, seconds_between_states=0.5
    )


def outcomes(made, payloads):
    with made as entered:
        for key, payload in payloads.items():
            entered.submit(key, payload)
        return {outcome.key: outcome for outcome in entered.completed()}


def ended_states(state):
    """How each job ended, once all have: an outcome is there a moment before its job's end."""
    deadline = time.monotonic() + 30
    while True:
        states = sorted(slurm_stand_in.state_of(state, path.stem)["state"] for path in state.glob("*.json"))
        if "RUNNING" not in states or time.monotonic() > deadline:
            return states
        time.sleep(0.05)


def cancelled(state):
    states = [slurm_stand_in.state_of(state, path.stem)["state"] for path in state.glob("*.json")]
    return states.count("CANCELLED by 0")


MIXED = {"a": 1, "dead": "segfault", "late": "hang", "wrong": "raise", "b": 2, "variables": "variables"}


@pytest.mark.parametrize("cluster", ["local", "slurm"])
def test_every_end_is_told_as_the_local_executor_tells_it(tmp_path, slurm, cluster):
    found = outcomes(executor(tmp_path, cluster, limit=4, trials_per_job=3), MIXED)
    assert (found["a"].result, found["b"].result) == (1, 2)
    assert found["dead"].failure == WorkerDied(-signal.SIGSEGV, "SIGSEGV")
    assert found["late"].failure == TimedOut(4)
    assert isinstance(found["wrong"].failure, Raised)
    assert isinstance(found["wrong"].failure.exception, ValueError)
    assert "in act" in found["wrong"].failure.traceback
    assert found["variables"].result == []  # else Lightning takes a trial for one task of a distributed training
    assert list(tmp_path.iterdir()) == [tmp_path / "bin"]


def test_jobs_are_arrays_with_the_options_asked_for(tmp_path, slurm):
    made = executor(tmp_path, trials_per_job=2, time="1:00:00", partition="gpu", **{"mem-bind": "local"})
    assert len(outcomes(made, {str(number): number for number in range(5)})) == 5
    (script,) = slurm.glob("*.sh")
    text = script.read_text()
    for line in ("--array=0-2%", "--partition=gpu", "--time=60", "--cpus-per-task=1", "--mem-bind=local"):
        assert f"#SBATCH {line}" in text
    assert len(list(slurm.glob("*.json"))) == 3
    assert ended_states(slurm) == ["COMPLETED"] * 3


def test_more_may_be_submitted_while_outcomes_come(tmp_path, slurm):
    with executor(tmp_path) as made:
        made.submit("0", 0)
        seen = []
        for outcome in made.completed():
            seen.append(outcome.result)
            if len(seen) < 3:
                made.submit(str(len(seen)), len(seen))
    assert seen == [0, 1, 2]


def test_what_a_lost_node_had_not_finished_is_run_again(tmp_path, slurm):
    marker = tmp_path / "marker"

    def fail_once_begun():
        while not marker.exists():
            time.sleep(0.05)
        (slurm / "fail-next").write_text("NODE_FAIL")

    threading.Thread(target=fail_once_begun, daemon=True).start()
    found = outcomes(executor(tmp_path, limit=90, trials_per_job=3), {"first": 1, "lost": marker, "behind": 2})
    assert {key: outcome.result for key, outcome in found.items()} == {"first": 1, "lost": "again", "behind": 2}
    assert ended_states(slurm) == ["COMPLETED", "NODE_FAIL"]


@pytest.mark.parametrize(
    ("state", "failure"),
    [
        ("TIMEOUT", TimedOut(60.0)),
        ("OUT_OF_MEMORY", WorkerDied(-9, "SIGKILL", "SLURM ended the job because memory had run out")),
    ],
)
def test_limits_of_the_job_are_the_trials(tmp_path, slurm, state, failure):
    marker = tmp_path / "marker"

    def fail_once_begun():
        while not marker.exists():
            time.sleep(0.05)
        (slurm / "fail-next").write_text(state)

    threading.Thread(target=fail_once_begun, daemon=True).start()
    found = outcomes(executor(tmp_path, limit=90, time="1"), {"over": marker})
    assert found["over"].failure == failure


def test_a_job_that_cannot_begin_ends_the_run_with_its_last_line(tmp_path, slurm):
    said = r"job \d+ failed before its first trial: .*No module named 'submitit'.* \(log: (/.*_log\.\w+)\)"
    made = executor(tmp_path).__enter__()
    made._submitter._executor.python = f"{sys.executable} -S -I"  # without what is installed
    made.submit("0", 0)
    with pytest.raises(UserError, match=said) as caught:
        list(made.completed())
    made.__exit__(type(caught.value), caught.value, None)
    assert "No module" in Path(re.search(said, str(caught.value))[1]).read_text()


def test_leaving_early_cancels_the_jobs(tmp_path, slurm):
    with executor(tmp_path) as made:
        for number in range(4):
            made.submit(str(number), 0 if number == 0 else "hang")
        next(made.completed())
    assert cancelled(slurm) >= 3  # the first one may not have ended yet
    assert not (tmp_path / "slurm").exists()


KILLED = """
    import sys, time
    from trainoff.benchmarks.executors.resources import Resources
    from trainoff.benchmarks.executors.slurm import SlurmExecutor

    with SlurmExecutor(time.sleep, Resources(), sys.argv[1], {"time": 5}) as made:
        for number in range(3):
            made.submit(str(number), 60)
        for outcome in made.completed():
            pass
"""


def test_what_a_killed_run_left_in_the_queue_is_cancelled_by_the_next(tmp_path, slurm):
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)])
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("slurm/*/jobs.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.kill()
    process.wait()
    assert outcomes(executor(tmp_path), {"0": 0})["0"].result == 0
    assert cancelled(slurm) == 3
    assert not (tmp_path / "slurm").exists()


def test_without_slurm_it_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="there is no sbatch here"):
        executor(tmp_path).__enter__()


@pytest.mark.parametrize(
    ("given", "minutes"),
    [(90, 90), ("90", 90), ("30:00", 30), ("0:30", 1), ("1:30:00", 90), ("1-0", 1440), ("2-12:30", 3630)],
)
def test_times_are_sbatch_s(given, minutes):
    assert minutes_of(given, None, 1) == minutes


def test_a_time_limit_says_how_long_a_job_may_take():
    assert minutes_of(None, 600, 3) == 30 + 10
    with pytest.raises(UserError, match="say how long a job may take"):
        minutes_of(None, None, 1)
    with pytest.raises(UserError, match="'soon' is no time"):
        minutes_of("soon", None, 1)
    with pytest.raises(UserError, match="trials_per_job: '0' is not a whole number"):
        SlurmExecutor(act, Resources(), "folder", {"time": 1, "trials_per_job": "0"})


def test_resources_reach_the_job():
    told = job_parameters(Resources(cpus=4, gpus=2, memory_limit=3 * 2**30), 60, {"exclusive": "true", "x-y": 1}, 7)
    assert told["cpus_per_task"] == 4
    assert told["gpus_per_node"] == 2
    assert told["mem_gb"] == 4
    assert told["slurm_array_parallelism"] == 7
    assert told["slurm_exclusive"] is True
    assert told["slurm_additional_parameters"] == {"x-y": 1}
