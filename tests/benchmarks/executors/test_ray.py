"""Ray's executor on a real cluster of two nodes, whose processes run on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import cloudpickle
import pytest

from trainoff.benchmarks.executors.outcome import Raised, TimedOut, WorkerDied
from trainoff.benchmarks.executors.ray import RayExecutor
from trainoff.benchmarks.executors.resources import Resources
from trainoff.errors import UserError

ray = pytest.importorskip("ray")
cloudpickle.register_pickle_by_value(sys.modules[__name__])
LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


def act(what):
    if what == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "hang":
        time.sleep(60)
    if what == "raise":
        raise ValueError("no such luck")
    if what == "node":
        time.sleep(0.5)
        return ray_node()
    return what


def ray_node():
    """Of the parent process: the trial itself is no part of Ray."""
    words = Path(f"/proc/{grandparent()}/environ").read_bytes().split(b"\0")
    return {key: value for key, _, value in (word.partition(b"=") for word in words)}.get(b"RAY_NODE_ID", b"").decode()


def grandparent():
    server = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[1])
    return int(Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[1])


class Unimportable:
    """Of a module that no worker can import."""

    def __init__(self, value):
        self.value = value


def outcomes(payloads, function=act, **arguments):
    with RayExecutor(function, **arguments) as executor:
        for key, payload in payloads.items():
            executor.submit(key, payload)
        return {outcome.key: outcome for outcome in executor.completed()}


@pytest.fixture
def cluster(monkeypatch):
    """Two nodes of one processor each."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


MIXED = {"a": 1, "dead": "segfault", "late": "hang", "wrong": "raise", "own": Unimportable(3)}


@pytest.mark.slow
def test_every_end_is_told_as_the_local_executor_tells_it(cluster):
    before = signal.getsignal(signal.SIGTERM)
    limits = Resources(time_limit=5)
    found = outcomes(MIXED, resources=limits, address=cluster.address)
    assert found["a"].result == 1
    assert found["own"].result.value == 3
    assert found["dead"].failure == WorkerDied(-signal.SIGSEGV, "SIGSEGV")
    assert found["late"].failure == TimedOut(5)
    assert isinstance(found["wrong"].failure, Raised)
    assert isinstance(found["wrong"].failure.exception, ValueError)
    assert "in act" in found["wrong"].failure.traceback
    assert signal.getsignal(signal.SIGTERM) == before  # Ray brings a handler of its own
    assert not ray.is_initialized()

    with pytest.raises(UserError, match=r"a trial asks for 2 CPU; no machine of the Ray cluster has that \(2 there\)"):
        outcomes({}, resources=Resources(cpus=2), address=cluster.address)
    with pytest.raises(UserError, match="a trial asks for 1 CPU, 1 GPU"):
        outcomes({}, resources=Resources(gpus=1), address=cluster.address)
    with RayExecutor(act, Resources(), address=cluster.address) as executor:
        assert executor.at_once == 2
        with pytest.raises(UserError, match="connected to Ray already"):
            RayExecutor(act, Resources(), address=cluster.address).__enter__()


@LINUX
@pytest.mark.slow
def test_a_lost_node_loses_nothing_and_only_its_own_work_is_run_again(cluster, tmp_path):
    def leave_a_trace(number):
        with open(tmp_path / f"{number}", "a") as file:
            file.write(".")
        time.sleep(1.5)
        return number

    third = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    with RayExecutor(leave_a_trace, Resources(), address=cluster.address) as executor:
        assert executor.at_once == 4
        for number in range(24):
            executor.submit(str(number), number)
        found, begun_at_the_kill = [], 0
        for outcome in executor.completed():
            found.append(outcome)
            if len(found) == 8:
                cluster.remove_node(third, allow_graceful=False)
                begun_at_the_kill = len(list(tmp_path.iterdir()))
    assert sorted(outcome.result for outcome in found) == list(range(24))
    repeated = [path.name for path in tmp_path.iterdir() if path.stat().st_size > 1]
    assert 1 <= len(repeated) <= 4  # what ran at that moment; the results of the others were there
    assert not {outcome.key for outcome in found[:8]} & set(repeated)
    assert begun_at_the_kill < 24


@LINUX
@pytest.mark.slow
def test_ray_is_started_here_where_no_cluster_is_named_and_leaves_nobody_behind(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = processes()
    found = outcomes({str(number): number for number in range(20)}, resources=Resources(), most=1)
    assert {outcome.result for outcome in found.values()} == set(range(20))
    wait_until(lambda: processes() <= before)


@LINUX
@pytest.mark.slow
def test_control_c_ends_ray_too(tmp_path):
    code = """
        import time
        from trainoff.benchmarks.executors.ray import RayExecutor
        from trainoff.benchmarks.executors.resources import Resources

        def work(number):
            print("begun", flush=True)
            time.sleep(60)

        with RayExecutor(time.sleep, Resources()) as executor:
            executor.submit("0", 0.0)
            executor.submit("1", 60)
            for outcome in executor.completed():
                print("first", flush=True)
    """
    before = processes()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout.readline() == "first\n"
    os.killpg(process.pid, signal.SIGINT)
    process.wait(timeout=60)
    wait_until(lambda: processes() <= before)


@LINUX
@pytest.mark.slow
def test_nothing_outlives_a_killed_driver(tmp_path):
    code = """
        import time
        from trainoff.benchmarks.executors.ray import RayExecutor
        from trainoff.benchmarks.executors.resources import Resources

        with RayExecutor(time.sleep, Resources()) as executor:
            executor.submit("0", 0.0)
            executor.submit("1", 60)
            for outcome in executor.completed():
                print("first", flush=True)
    """
    before = processes()
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "first\n"
    process.kill()
    process.wait()
    wait_until(lambda: processes() <= before, 240)  # two agents of Ray look for their dead head for a minute or two


def processes():
    """Those of Ray, and fork servers that they started, by process id."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                line = (entry / "cmdline").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if state != "Z" and (b"ray::" in line or b"raylet" in line or b"gcs_server" in line):
                found.add(int(entry.name))
    return found


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


def test_no_cluster_at_the_address_is_one_line():
    with pytest.raises(UserError, match=r"--address: no Ray cluster answers at '127\.0\.0\.1:1': "):
        outcomes({}, resources=Resources(), address="127.0.0.1:1")


def test_outcomes_need_the_with_statement():
    executor = RayExecutor(act, Resources())
    executor.submit("0", 0)
    with pytest.raises(TypeError, match="with executor"):
        next(executor.completed())


def test_what_cannot_be_sent_is_one_line():
    with pytest.raises(UserError, match="trial-7: cannot be sent"):
        RayExecutor(act, Resources()).submit("trial-7", threading.Lock())
