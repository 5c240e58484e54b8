from __future__ import annotations

import multiprocessing
import os
import sys
import time
from pathlib import Path

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainoff.benchmarks.executors.local import LocalExecutor
from trainoff.benchmarks.executors.memory_limit import bytes_of
from trainoff.benchmarks.executors.outcome import WorkerDied
from trainoff.benchmarks.executors.process_tree import held_bytes, kill_tree, proportional_bytes, tree_of
from trainoff.errors import UserError

cloudpickle.register_pickle_by_value(sys.modules[__name__])
pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")

MIB = 2**20


def hold(mebibytes):
    """Pages that are really there."""
    return b"x" * (mebibytes * MIB)


def sleep_holding(mebibytes):
    kept = hold(mebibytes)
    time.sleep(60)
    return len(kept)


def eat(how):
    if how == "itself":
        sleep_holding(900)
    if how == "in a child":
        child = multiprocessing.get_context("fork").Process(target=sleep_holding, args=(900,))
        child.start()
        child.join()
    if how == "shared with children":  # 200 MiB, seen by each of four children
        kept = hold(200)
        children = [multiprocessing.get_context("fork").Process(target=time.sleep, args=(1.5,)) for _ in range(4)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        return len(kept)
    return os.getpid()


def test_a_worker_over_the_limit_is_ended_and_no_other():
    hows = ["itself", "little", "in a child", "shared with children", "little"]
    with LocalExecutor(eat, 2, preload=(), memory_limit=600 * MIB) as executor:
        for number, how in enumerate(hows):
            executor.submit(f"{number} {how}", how)
        found = {outcome.key: outcome for outcome in executor.completed()}
    for key in ("0 itself", "2 in a child"):
        death = found[key].failure
        assert isinstance(death, WorkerDied)
        assert "over its limit of 600 MiB" in death.memory
        assert found[key].seconds < 30
    assert found["3 shared with children"].result == 200 * MIB
    assert found["1 little"].failure is None
    assert found["4 little"].failure is None


def test_a_child_of_a_worker_that_is_ended_goes_with_it(tmp_path):
    def child_of(path):
        child = multiprocessing.get_context("fork").Process(target=sleep_holding, args=(900,))
        child.start()
        Path(path).write_text(str(child.pid))
        child.join()

    with LocalExecutor(child_of, 1, preload=(), memory_limit=600 * MIB) as executor:
        executor.submit("0", str(tmp_path / "pid"))
        (outcome,) = executor.completed()
    assert "over its limit" in outcome.failure.memory
    assert tree_of(int((tmp_path / "pid").read_text())) == []


def test_shared_pages_count_once_where_it_decides():
    kept = hold(100)
    children = [multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,)) for _ in range(3)]
    for child in children:
        child.start()
    try:
        processes = tree_of(os.getpid())
        assert {child.pid for child in children} <= set(processes)
        assert processes[0] == os.getpid()
        assert held_bytes(processes) - proportional_bytes(processes) > 250 * MIB
        assert len(kept) == 100 * MIB
    finally:
        for child in children:
            kill_tree(child.pid)
            child.join()


@pytest.mark.parametrize(
    ("given_", "bytes_"),
    [(1000, 1000), ("1000", 1000), ("4GB", 4 * 10**9), ("512 MiB", 512 * MIB), ("1.5k", 1500), ("2tib", 2 * 2**40)],
)
def test_sizes(given_, bytes_):
    assert bytes_of(given_, "memory_limit") == bytes_


@given(st.integers(1, 10**6), st.sampled_from([("KiB", 10), ("MiB", 20), ("GiB", 30)]))
def test_binary_units_are_shifts(number, unit):
    name, shift = unit
    assert bytes_of(f"{number}{name}", "") == number << shift


@pytest.mark.parametrize("given_", ["4XB", "", "GB", "-1", 0, -5, True, None, 1.5, "0GB", "1 2"])
def test_what_is_no_size_is_refused(given_):
    with pytest.raises(UserError, match=r"memory_limit: .* is no size of memory; write 4GB"):
        bytes_of(given_, "memory_limit")
