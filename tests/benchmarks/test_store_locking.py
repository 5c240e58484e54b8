"""A run folder has one writer at a time, also when it is killed, and where there is no `flock`."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stored_records import record

from trainoff.benchmarks import folder_lock
from trainoff.benchmarks.store import RunFolder
from trainoff.errors import UserError

WRITER = """
import sys
from trainoff.benchmarks.store import RunFolder
from trainoff.benchmarks.record import Record, TrialFacts, Curves
with RunFolder(sys.argv[1]) as folder:
    print("locked", flush=True)
    number = 0
    while True:
        number += 1
        facts = TrialFacts(id=f"trial-{number % 7}", suite="s", task="t", recipe="r", stage="final", seed=number,
                           setting={})
        folder.write(Record(trial=facts, status="ok", curves=Curves(train_loss=[float(number)] * 20_000)))
"""


def start(source: str, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", source, *map(str, arguments)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )


def test_a_killed_writer_leaves_whole_records_and_no_lock(tmp_path):
    chance = random.Random(1)
    leftovers = 0
    for kills in range(100):
        if kills >= 12 and leftovers:
            break
        process = start(WRITER, tmp_path)
        assert process.stdout.readline() == "locked\n"
        time.sleep(chance.uniform(0, 0.15))
        process.kill()
        process.wait()
        leftovers += len(list((tmp_path / "records").glob(".*.tmp")))
        records, problems = RunFolder(tmp_path).read_all()
        assert problems == []
        assert all(set(found.curves.train_loss) == {float(found.trial.seed)} for found in records.values())
        with RunFolder(tmp_path):  # the lock is free at once
            assert not list((tmp_path / "records").glob(".*"))
    assert leftovers > 0  # otherwise this tried nothing


def test_only_our_own_leftovers_are_removed(tmp_path):
    (tmp_path / "records").mkdir()
    ours = tmp_path / "records" / f".trainoff-{'0' * 32}.tmp"
    theirs = [tmp_path / ".trainoff-x.tmp", tmp_path / "records" / ".a.json.tmp", tmp_path / "records" / "x.tmp"]
    for path in (ours, *theirs):
        path.write_text("")
    with RunFolder(tmp_path):
        assert not ours.exists()
        assert all(path.exists() for path in theirs)


# --- the lock -----------------------------------------------------------------------------------------------------

HOLDER = """
import sys
from trainoff.benchmarks.store import RunFolder
with RunFolder(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused(tmp_path):
    process = start(HOLDER, tmp_path)
    assert process.stdout.readline() == "locked\n"
    pattern = rf"run folder {tmp_path} is in use by process {process.pid} on host {socket.gethostname()} since 20\d\d-"
    for _ in range(2):
        with pytest.raises(UserError, match=pattern), RunFolder(tmp_path):
            pass
    process.communicate("")
    with RunFolder(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    assert (tmp_path / ".lock").read_text() == ""


def test_the_same_process_is_refused_too(tmp_path):
    with RunFolder(tmp_path):
        with pytest.raises(UserError, match=f"in use by process {os.getpid()} "), RunFolder(tmp_path):
            pass
        with pytest.raises(UserError, match="in use"), RunFolder(tmp_path):  # the refused one freed nothing
            pass


def test_a_lock_without_content_is_a_lock(tmp_path):
    with RunFolder(tmp_path):
        (tmp_path / ".lock").write_text("")
        with pytest.raises(UserError, match="in use by another process"), RunFolder(tmp_path):
            pass


FORKS = """
import os, sys, time
from trainoff.benchmarks.store import RunFolder
with RunFolder(sys.argv[1]) as folder:
    pid = os.fork()
    if pid == 0:
        time.sleep(30)
    print(pid, flush=True)
    time.sleep(30)
"""


def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    process = start(FORKS, tmp_path)
    child = int(process.stdout.readline())
    try:
        time.sleep(0.2)
        with pytest.raises(UserError, match=f"process {process.pid} "), RunFolder(tmp_path):
            pass
        process.kill()
        process.wait()
        os.kill(child, 0)  # still there
        with RunFolder(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_forked_child_does_not_free_its_parents_lock(tmp_path):
    with RunFolder(tmp_path) as folder:
        pid = os.fork()
        if pid == 0:
            folder.__exit__(None, None, None)
            os._exit(0)
        os.waitpid(pid, 0)
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
        with pytest.raises(UserError, match="in use"), RunFolder(tmp_path):
            pass


@pytest.fixture
def without_flock(monkeypatch):
    import fcntl

    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.usefixtures("without_flock")
def test_without_flock_an_owner_file_stands_for_it(tmp_path):
    owner = tmp_path / ".lock-owner"
    with RunFolder(tmp_path) as folder:
        with pytest.raises(UserError, match=f"in use by process {os.getpid()} .*delete {owner}"), RunFolder(tmp_path):
            pass
        folder.write(record())
    assert not owner.exists()
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()  # its number belongs to nobody now
    owner.write_text(json.dumps({"pid": process.pid, "host": socket.gethostname()}))
    with RunFolder(tmp_path):
        assert json.loads(owner.read_text())["pid"] == os.getpid()
    for content in (json.dumps({"pid": process.pid, "host": "elsewhere"}), "", "[1]"):
        owner.write_text(content)
        with pytest.raises(UserError, match=f"if that run has ended, delete {owner}"), RunFolder(tmp_path):
            pass
        assert owner.read_text() == content


def test_places_that_are_no_folders(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match="is a file, or lies in one"), RunFolder(path):
            pass
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "records").write_text("mine")
    with pytest.raises(UserError, match="records: is a file"), RunFolder(tmp_path / "run"):
        pass
    assert (tmp_path / "run" / "records").read_text() == (tmp_path / "file").read_text() == "mine"
    (tmp_path / "run" / "records").unlink()
    with RunFolder(tmp_path / "run"):  # the lock was freed
        pass


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_a_place_where_nothing_can_be_made():
    with pytest.raises(UserError, match="/proc/trainoff: cannot be used as a run folder"), RunFolder("/proc/trainoff"):
        pass


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_folder_that_is_not_writable(tmp_path, monkeypatch, code):
    # Tests may run as root, whom permissions do not stop.
    def refuse(*arguments, **keywords):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(folder_lock.os, "open", refuse)
    with pytest.raises(UserError, match=f"cannot be used as a run folder: {os.strerror(code)}"), RunFolder(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
