"""A run folder's records: written whole or not at all, and read whatever is there."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored_records import names, record

from trainoff.benchmarks import store
from trainoff.benchmarks.record import to_json
from trainoff.benchmarks.store import RunFolder, write_atomically
from trainoff.errors import UserError


def test_records_come_back(tmp_path):
    with RunFolder(tmp_path / "runs" / "digits") as folder:
        folder.write(record("a"))
        folder.write(record("b", "crashed"))
        folder.write(record("a", seed=2))  # again, in place of the first
        assert folder.read_all() == ({"a": record("a", seed=2), "b": record("b", "crashed")}, [])
    assert RunFolder(folder.path).read_all()[0].keys() == {"a", "b"}  # reading takes no lock
    assert names(folder.path) == [".lock", "records/a.json", "records/b.json"]


def test_reading_an_empty_folder_or_none(tmp_path):
    assert RunFolder(tmp_path).read_all() == ({}, [])
    with pytest.raises(UserError, match="there is no such run folder"):
        RunFolder(tmp_path / "nowhere").read_all()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be read: Not a directory"):
        RunFolder(tmp_path / "file").read_all()


def test_changes_need_the_lock(tmp_path):
    for change in (
        lambda folder: folder.write(record()),
        lambda folder: folder.set_aside("a"),
        lambda folder: folder.restore("a"),
    ):
        with pytest.raises(RuntimeError, match="with folder"):
            change(RunFolder(tmp_path))


@pytest.mark.parametrize("trial_id", ["", "../a", "a/b", "a.b", "é", "a" * 101])
def test_an_id_that_is_no_name_is_refused(tmp_path, trial_id):
    with RunFolder(tmp_path) as folder, pytest.raises(ValueError, match="cannot be a file's name"):
        folder.write(record(trial_id))


def spoil(folder: Path) -> dict[str, str]:
    """Put one file of each bad kind among the records; returns what each is called."""
    records = folder / "records"
    records.mkdir(parents=True, exist_ok=True)
    whole = to_json(record("cut"))
    newer = json.loads(whole) | {"schema_version": 99}
    (records / "cut.json").write_bytes(whole[: len(whole) // 2])
    (records / "empty.json").write_bytes(b"")
    (records / "foreign.json").write_text('{"hello": 1}')
    (records / "newer.json").write_text(json.dumps(newer))
    (records / "renamed.json").write_bytes(to_json(record("other")))
    (records / "binary.json").write_bytes(b"\xff\xfe\x00")
    (records / "deep.json").write_bytes(b"[" * 200_000)
    (records / "folder.json").mkdir()
    (records / "dangling.json").symlink_to("nowhere")
    os.mkfifo(records / "pipe.json")
    (records / "notes.txt").write_text("not ours")
    return {
        "cut": "truncated",
        "empty": "truncated",
        "foreign": "not a trainoff record",
        "newer": "newer trainoff",
        "renamed": "the record of another trial ('other')",
        "binary": "",
        "deep": "",
        "folder": "not a regular file",
        "dangling": "not a regular file",
        "pipe": "not a regular file",
    }


def test_what_is_no_record_is_told_and_left_alone(tmp_path):
    reasons = spoil(tmp_path)
    with RunFolder(tmp_path) as folder:
        folder.write(record("good"))
        before = names(tmp_path)
        records, problems = folder.read_all()
    assert list(records) == ["good"]
    assert [problem.path.stem for problem in problems] == sorted(reasons)
    for problem in problems:
        assert reasons[problem.path.stem] in problem.reason
    assert all(problem.reason and "\n" not in problem.reason for problem in problems)
    assert names(tmp_path) == before


def test_what_is_no_record_is_kept_when_its_place_is_needed(tmp_path):
    reasons = spoil(tmp_path)
    with RunFolder(tmp_path) as folder:
        for name in reasons:
            folder.write(record(name))
        found, problems = folder.read_all()
        assert sorted(found) == sorted(reasons)
        assert problems == []
        for name in reasons:
            assert os.path.lexists(tmp_path / "records" / f"{name}.json.unreadable-1")
        assert (tmp_path / "records" / "foreign.json.unreadable-1").read_text() == '{"hello": 1}'
        (tmp_path / "records" / "foreign.json").write_text("again")
        folder.write(record("foreign"))
    assert (tmp_path / "records" / "foreign.json.unreadable-1").read_text() == '{"hello": 1}'
    assert (tmp_path / "records" / "foreign.json.unreadable-2").read_text() == "again"


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=100), cut=st.integers(0, 2000))
def test_any_content_is_a_record_or_a_problem(tmp_path, content, cut):
    (tmp_path / "records").mkdir(exist_ok=True)
    whole = to_json(record("x"))
    (tmp_path / "records" / "x.json").write_bytes(whole[:cut] + content)
    records, problems = RunFolder(tmp_path).read_all()
    assert len(records) + len(problems) == 1


def test_records_set_aside_come_back(tmp_path):
    with RunFolder(tmp_path) as folder:
        folder.write(record("a"))
        folder.set_aside("a")
        folder.set_aside("a")  # nothing there any more
        assert folder.read_all() == ({}, [])
        assert folder.restore("b") is None
        assert folder.restore("a") == record("a")
        assert folder.restore("a") is None
        assert list(folder.read_all()[0]) == ["a"]
        folder.set_aside("a")
        folder.write(record("a", seed=2))
        assert folder.restore("a") is None  # a newer one is there
        folder.set_aside("a")
        assert folder.restore("a") == record("a", seed=2)


def test_the_suite(tmp_path):
    with RunFolder(tmp_path) as folder:
        assert folder.suite_name() is None
        folder.write_suite("name: digits\n")
        assert folder.suite_name() == "digits"
        folder.write_suite("- 1\n")
        assert folder.suite_name() is None
        folder.write_suite("name: [\n")
        with pytest.raises(UserError, match=r"suite\.yaml:2: "):
            folder.suite_name()


def test_ten_thousand_records_are_read_in_seconds(tmp_path):
    (tmp_path / "records").mkdir()
    for number in range(10_000):
        (tmp_path / "records" / f"{number:016x}.json").write_bytes(to_json(record(f"{number:016x}", epochs=20)))
    start = time.process_time()
    records, problems = RunFolder(tmp_path).read_all()
    assert time.process_time() - start < 6  # 0.5 on a quiet machine of 2 cores
    assert (len(records), problems) == (10_000, [])


# --- writing ------------------------------------------------------------------------------------------------------


def test_write_atomically_replaces(tmp_path):
    path = tmp_path / ("n" * 250)
    write_atomically(path, b"one")
    write_atomically(str(path), b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o666 & ~current_umask()
    assert len(list(tmp_path.iterdir())) == 1


def current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), UserError, "the disk is full"),
        (OSError(errno.EDQUOT, "Quota"), UserError, "the disk is full"),
        (OSError(errno.EIO, "Input/output error"), UserError, "cannot be written: Input/output error"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_a_write_that_fails_leaves_things_as_they_were(tmp_path, monkeypatch, error, raised, message):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(descriptor):
        raise error

    monkeypatch.setattr(store.os, "fsync", fail)
    with pytest.raises(raised, match=message):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_breaks_off_in_the_middle():
    # A limit on file sizes stands in for a full disk.
    source = """
import resource, signal, sys, tempfile, os
from trainoff.benchmarks.store import write_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = tempfile.mkdtemp()
write_atomically(folder + "/file", b"old")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomically(folder + "/file", b"x" * 10_000)
except Exception as error:
    print(type(error).__name__, error)
print(os.listdir(folder), open(folder + "/file").read())
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("UserError")
    assert done.stdout.endswith("['file'] old\n")


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "nowhere" / "x", tmp_path / "file" / "x", tmp_path / "folder"):
        with pytest.raises(UserError, match="cannot be written"):
            write_atomically(path, b"x")
    assert names(tmp_path) == ["file"]
