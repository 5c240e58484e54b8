"""What speaks for memory as the reason of a SIGKILL, and how the numbers are read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainoff.benchmarks.executors import control_groups, memory_watch
from trainoff.benchmarks.executors.memory_watch import Look, MemoryWatch, out_of_memory

GIB = 2**30


def looks(*lefts, held=4 * GIB, kills=None):
    counts = kills or [0] * len(lefts)
    return [
        Look(0.2 * number, 8 * GIB, left, held, count)
        for number, (left, count) in enumerate(zip(lefts, counts, strict=True))
    ]


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ([], ""),
        (looks(4 * GIB, 3 * GIB), ""),
        (looks(4 * GIB, 3 * GIB, kills=[5, 5]), ""),  # kills of an earlier day
        (looks(4 * GIB, 3 * GIB, kills=[5, 6]), "the system ended a process because memory had run out"),
        (looks(4 * GIB, 3 * GIB, kills=[None, 6]), ""),
        # What was left before the kill counts, not what is left after it.
        (looks(2 * GIB, GIB // 10, 6 * GIB), "102 of 8192 MiB of memory were left, the workers held 4096 MiB"),
        (looks(GIB // 10, held=GIB // 20), ""),  # not the workers took it
        (looks(GIB), ""),
    ],
)
def test_only_a_counted_kill_or_scarce_memory_speaks(seen, said):
    assert out_of_memory(seen) == said


def write_group(folder, limit, usage, cache, kills):
    folder.mkdir(parents=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cache}\nactive_file 7\n")
    (folder / "memory.events").write_text(f"low 0\noom 9\noom_kill {kills}\n")


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """The job with a limit, and in it the step without one that the process belongs to."""
    write_group(tmp_path / "job", 1000, 900, 300, 4)
    write_group(tmp_path / "job" / "step", "max", 800, 100, 3)
    monkeypatch.setattr(control_groups, "_MOUNT", tmp_path)
    monkeypatch.setattr(control_groups, "_MEMBERSHIP", tmp_path / "membership")
    (tmp_path / "membership").write_text("0::/job/step\n")
    return control_groups.own_groups()


def test_the_limit_may_be_that_of_a_group_further_out(groups):
    assert [group.total_and_left(machine=5000) for group in groups] == [None, (1000, 400), None]
    assert [group.kills() for group in groups] == [3, 4, None]
    assert groups[1].total_and_left(machine=1000) is None


def test_groups_of_version_1(tmp_path, monkeypatch):
    folder = tmp_path / "memory"
    folder.mkdir()
    for name, text in {
        "memory.limit_in_bytes": "1000",
        "memory.usage_in_bytes": "900",
        "memory.stat": "inactive_file 1\ntotal_inactive_file 50",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2",
    }.items():
        (folder / name).write_text(text)
    monkeypatch.setattr(control_groups, "_MOUNT", tmp_path)
    monkeypatch.setattr(control_groups, "_MEMBERSHIP", tmp_path / "membership")
    # In a container the path is that of the machine, of which only the group itself is mounted.
    (tmp_path / "membership").write_text("9:cpu:/\n4:cpuset,memory:/machine/of-a-container\n")
    (group,) = control_groups.own_groups()
    assert (group.total_and_left(machine=5000), group.kills()) == ((1000, 150), 2)


def test_a_kill_is_news_for_some_seconds_only(groups, tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(memory_watch.time, "monotonic", lambda: clock[0])
    proc = tmp_path / "proc"
    (proc / "7").mkdir(parents=True)
    (proc / "7" / "status").write_text("Name:\tpython\nVmRSS:\t     20 kB\n")
    (proc / "meminfo").write_text("MemTotal: 80 kB\nMemAvailable: 60 kB\nSwapTotal: 10 kB\nSwapFree: 5 kB\n")
    monkeypatch.setattr(memory_watch, "_PROCESSES", proc)
    watch = MemoryWatch()
    watch.look([7, 8])
    assert list(watch._looks) == [Look(100.0, 1000, 400, 20 * 1024, 3)]
    (tmp_path / "job" / "step" / "memory.events").write_text("oom_kill 4\n")
    assert "memory had run out" in watch.why_killed([7])
    for _ in range(30):
        clock[0] += 0.2
        watch.look([7])
    assert watch.why_killed([7]) == ""
    assert len(watch._looks) < 20


def test_without_proc_the_watch_says_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(memory_watch, "_PROCESSES", tmp_path)
    monkeypatch.setattr(control_groups, "_MEMBERSHIP", tmp_path / "membership")
    watch = MemoryWatch()
    watch.look([os.getpid()])
    assert watch.why_killed([os.getpid()]) == ""


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="reads /proc")
def test_this_machine_has_memory_left():
    watch = MemoryWatch()
    watch.look([os.getpid()])
    assert watch.why_killed([os.getpid()]) == ""
    assert 0 < watch._looks[-1].held < watch._looks[-1].total
