"""Runs killed at any moment: nothing lost, nothing doubled, nothing run twice, nobody left behind."""

from __future__ import annotations

import contextlib
import math
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from running_suites import make_data, numbers_of

from trainoff.benchmarks.store import RunFolder
from trainoff.benchmarks.suite_yaml import dump_yaml

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes through /proc")

MARK = "TRAINOFF_TEST_RUN"
PATIENCE = 60  # seconds for what takes a few on an idle machine


def trials_of(epochs):
    """18 trials: three for tuning, fifteen final ones."""
    recipes = {
        "adamw": {"optimizer": {"name": "adamw", "lr": 3e-3}, "batch": 64},
        "sgd": {"optimizer": {"name": "sgd", "lr": {"tune": [0.01, 0.03, 0.1]}}, "batch": 64},
        "l2": {"base": "adamw", "regularizers": ["l2"]},
    }
    return make_data(recipes, seeds={"tune": 1, "final": 5}, epochs=epochs)


@dataclass
class Running:
    """`trainoff run` in a session of its own, with a mark in the environment of all its processes."""

    folder: Path
    suite: Path
    arguments: tuple[str, ...] = ("--workers", "2")
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self):
        environment = {**os.environ, MARK: self.mark, "OMP_NUM_THREADS": "1"}
        command = [
            sys.executable,
            "-m",
            "trainoff",
            "run",
            str(self.suite),
            "--out",
            str(self.folder),
            *self.arguments,
        ]
        self.process = subprocess.Popen(
            command,
            cwd=self.suite.parent,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def living(self):
        """Process ids that bear the mark, with their parents'."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError, IndexError):
                if f"{MARK}={self.mark}".encode() not in (entry / "environ").read_bytes():
                    continue
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    found[int(entry.name)] = int(parent)
        return found

    def workers(self):
        """The fork server's children."""
        living = self.living()
        main = self.process.pid
        return [pid for pid, parent in living.items() if pid != main and parent != main and parent in living]

    def wait_for(self, condition):
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.05)

    def end(self):
        """Wait for the end; its exit status, output and errors, once no process of it is left."""
        output, errors = self.process.communicate(timeout=120)
        self.wait_for(lambda: not self.living())
        return self.process.returncode, output, errors

    def clean_up(self):
        for pid in self.living():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.communicate(timeout=30)


@pytest.fixture
def start(tmp_path):
    """Start the suite of the test; whatever still runs at the end is killed."""
    started = []

    def start_(folder, epochs=10):
        suite = tmp_path / f"suite-{epochs}.yaml"
        suite.write_text(dump_yaml(trials_of(epochs)))
        started.append(Running(tmp_path / folder, suite))
        return started[-1]

    yield start_
    for running in started:
        running.clean_up()


def stamps(folder):
    """Of each whole record of a finished trial, what changes when it is written again."""
    if not folder.is_dir():
        return {}
    records = RunFolder(folder).read_all()[0]
    paths = [folder / "records" / f"{key}.json" for key, record in records.items() if record.status != "interrupted"]
    return {path.stem: (path.stat().st_mtime_ns, path.stat().st_ino) for path in paths}


def complete(start, folder):
    status, _, errors = start(folder).end()
    assert status == 0, errors


@dataclass
class Count:
    kills: int = 0
    of_workers: int = 0
    rounds: int = 0
    broken: int = 0
    left_behind: int = 0
    lost: int = 0
    doubled: int = 0
    run_again: int = 0
    different: int = 0
    temporary: int = 0


def kill_one(pids, chance):
    """Kill one of the processes; whether there was one to kill."""
    if not pids:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(chance.choice(pids), signal.SIGKILL)
        return True
    return False


def kill_and_check(start, tmp_path, kills, seed, until=math.inf):
    """Kill runs and workers at seeded random moments, complete each folder, and count what went wrong.

    Ends early once the monotonic clock says `until`.
    """
    chance = random.Random(seed)
    complete(start, "undisturbed")
    expected = numbers_of(tmp_path / "undisturbed")
    assert len(expected) == 18
    count = Count()

    def go_on():
        return count.kills + count.of_workers < kills and time.monotonic() < until

    while go_on():
        count.rounds += 1
        folder = tmp_path / f"killed-{count.rounds}"
        finished = {}
        while go_on() and len(finished) < len(expected):
            running = start(folder.name)
            ended = running.process.poll
            if chance.random() < 0.7:  # while trials run; else anywhere, imports and the fork server's start among it
                running.wait_for(lambda running=running, ended=ended: running.workers() or ended() is not None)
                if count.of_workers * 3 < kills:
                    time.sleep(chance.uniform(0, 1))
                    count.of_workers += kill_one(running.workers(), chance)
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.process.wait(timeout=chance.uniform(0.1, 3.0))
            if running.process.poll() is None:
                running.process.kill()
                count.kills += 1
            else:
                count.broken += running.process.returncode != 0
            running.process.communicate(timeout=PATIENCE)
            with contextlib.suppress(AssertionError):
                running.wait_for(lambda running=running: not running.living())
            count.left_behind += len(running.living())
            now = stamps(folder)
            count.lost += len(finished.keys() - now.keys())
            count.run_again += sum(now[key] != stamp for key, stamp in finished.items() if key in now)
            finished = now
        complete(start, folder.name)
        if len(stamps(folder)) < len(expected):  # a worker killed twice in one trial: the next run runs it again
            complete(start, folder.name)
        now, made = stamps(folder), numbers_of(folder)
        count.run_again += sum(now.get(key) != stamp for key, stamp in finished.items())
        count.lost += len(expected.keys() - made.keys())
        count.doubled += len(made.keys() - expected.keys())
        count.different += sum(made[key] != expected[key] for key in made.keys() & expected.keys())
        count.temporary += sum(path.name.endswith(".tmp") for path in folder.rglob("*"))
    print(f"\n{count}")
    return count


@pytest.mark.slow
@pytest.mark.parametrize(("kills", "seed"), [(3, 0), (40, 1)])
def test_a_run_killed_again_and_again_ends_as_one_that_was_not(start, tmp_path, kills, seed):
    count = kill_and_check(start, tmp_path, kills, seed)
    assert count.kills + count.of_workers >= kills
    assert count.kills
    assert count.of_workers
    assert count == Count(kills=count.kills, of_workers=count.of_workers, rounds=count.rounds)


def has_records(folder):
    return any((folder / "records").glob("*.json"))


def test_control_c_keeps_the_records_and_says_one_line(start, tmp_path):
    folder = tmp_path / "run"
    running = start("run", epochs=60)
    running.wait_for(lambda: has_records(folder))
    os.killpg(running.process.pid, signal.SIGINT)  # as a terminal does: the whole foreground group
    status, output, errors = running.end()
    assert status == 130
    assert errors == "trainoff: interrupted; finished trials keep their records\n"
    assert output == ""
    records, problems = RunFolder(folder).read_all()
    assert 1 <= len(records) < 18
    assert not problems
    assert {record.status for record in records.values()} == {"ok"}
    assert not [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


@pytest.mark.slow
def test_control_c_while_workers_are_being_made(start, tmp_path):
    running = start("run")
    running.wait_for(lambda: len(running.living()) > 1)
    os.killpg(running.process.pid, signal.SIGINT)
    status, _, errors = running.end()
    assert (status, errors) == (130, "trainoff: interrupted; finished trials keep their records\n")


@pytest.mark.slow
def test_control_c_twice_is_no_traceback_either(start, tmp_path):
    running = start("run", epochs=60)
    running.wait_for(lambda: has_records(tmp_path / "run"))
    os.killpg(running.process.pid, signal.SIGINT)
    time.sleep(0.1)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.process.pid, signal.SIGINT)
    status, _, errors = running.end()
    assert "Traceback" not in errors
    assert status == 130


def test_termination_ends_everything(start, tmp_path):
    folder = tmp_path / "run"
    running = start("run", epochs=60)
    running.wait_for(lambda: has_records(folder))
    assert running.workers()
    running.process.terminate()
    status, _, errors = running.end()  # which waits until no process is left
    assert (status, errors) == (143, "trainoff: interrupted; finished trials keep their records\n")
    assert not RunFolder(folder).read_all()[1]
