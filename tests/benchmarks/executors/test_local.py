"""The local executor: outcomes, deaths, hangs, and what cannot be sent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path

import cloudpickle
import pytest
from executing_payloads import LINUX, double, outcomes
from running_suites import low_limit

from trainoff.benchmarks.executors.local import LocalExecutor, Raised, TimedOut, WorkerDied
from trainoff.errors import UserError

# Workers cannot import this file by its name.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def misbehave(what):
    if isinstance(what, int) or what.startswith("SIG"):
        os.kill(os.getpid(), what if isinstance(what, int) else getattr(signal, what))
        time.sleep(5)
    if what == "kill parent":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    if what == "exit 255":
        os._exit(255)
    if what == "exit 0":
        os._exit(0)
    if what == "exit 3":
        os._exit(3)
    if what == "loop":
        while True:
            pass
    if what == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)
    if what == "SystemExit":
        raise SystemExit(4)
    if what == "unpicklable":
        return threading.Lock()
    if what == "unpicklable error":
        raise OddError(threading.Lock(), 2)
    if what == "error that cannot be rebuilt":
        raise OddError(1, 2)
    if what == "user error":
        raise UserError("is wrong", "recipe")
    if what == "pid":
        return os.getpid()
    return what


class OddError(Exception):
    def __init__(self, first, second):
        super().__init__("odd indeed")
        self.first = first


@pytest.mark.parametrize("workers", [1, 3])
def test_each_payload_gives_one_outcome(workers):
    found = outcomes(double, range(50), workers)
    assert {key: outcome.result for key, outcome in found.items()} == {str(i): 2 * i for i in range(50)}
    assert all(outcome.failure is None and 0 <= outcome.seconds < 1 for outcome in found.values())


def test_one_worker_is_another_process_and_is_used_again():
    found = outcomes(misbehave, ["pid"] * 10, workers=1)
    pids = {outcome.result for outcome in found.values()}
    assert len(pids) == 1
    assert os.getpid() not in pids


def test_more_may_be_submitted_while_iterating_and_afterwards():
    with LocalExecutor(double, 2, preload=()) as executor:
        executor.submit("0", 0)
        seen = []
        for outcome in executor.completed():
            seen.append(outcome.result)
            if len(seen) < 5:
                executor.submit(str(len(seen)), len(seen))
        assert seen == [0, 2, 4, 6, 8]
        executor.submit("again", 21)
        assert [outcome.result for outcome in executor.completed()] == [42]
        assert list(executor.completed()) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_deaths_are_outcomes_and_the_pool_goes_on(workers):
    ways = ["SIGKILL", "SIGSEGV", "SIGTERM", "SIGABRT", "exit 3", "exit 0", "fine"] * 2
    found = outcomes(misbehave, ways, workers)
    for number, way in enumerate(ways):
        failure = found[str(number)].failure
        if way == "fine":
            assert found[str(number)].result == "fine"
        elif way.startswith("SIG"):
            assert failure == WorkerDied(-getattr(signal, way), way)
        else:
            assert failure == WorkerDied(int(way[-1]), "")


def test_a_real_time_signal_has_no_name():
    number = signal.SIGRTMIN + 3
    assert outcomes(misbehave, [number])["0"].failure == WorkerDied(-number, f"signal {number}")


def test_hangs_time_out():
    start = time.monotonic()
    found = outcomes(misbehave, ["loop", "deaf", "fine", "fine"], time_limit=1)
    assert found["0"].failure == found["1"].failure == TimedOut(1)
    assert found["2"].result == found["3"].result == "fine"
    assert found["0"].seconds == pytest.approx(1, abs=0.9)
    assert time.monotonic() - start < 8


def test_exceptions_bring_their_traceback():
    ways = ["SystemExit", "unpicklable", "unpicklable error", "error that cannot be rebuilt", "user error"]
    found = [outcome.failure for _, outcome in sorted(outcomes(misbehave, ways).items())]
    assert all(isinstance(failure, Raised) and "Traceback" in failure.traceback for failure in found)
    assert [type(failure.exception) for failure in found] == [
        SystemExit,
        TypeError,
        RuntimeError,
        RuntimeError,
        UserError,
    ]
    assert "odd indeed" in str(found[2].exception)
    assert "odd indeed" in str(found[3].exception)
    assert "in misbehave" in found[4].traceback
    assert str(found[4].exception) == "recipe: is wrong"


def test_a_result_that_only_the_worker_can_read_fails_alone():
    class Trap:
        def __reduce__(self):
            return (eval, ("1/0",))

    found = outcomes(lambda value: Trap() if value else value, [1, 0])
    assert isinstance(found["0"].failure, Raised)
    assert isinstance(found["0"].failure.exception, ZeroDivisionError)
    assert found["1"].result == 0


def test_what_cannot_be_sent_is_one_line():
    with LocalExecutor(double, 1, preload=()) as executor, pytest.raises(UserError, match="trial-7: cannot be sent"):
        executor.submit("trial-7", threading.Lock())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workers": 0}, "workers: 0 is too few"),
        ({"workers": 1, "threads": 0}, "threads: 0"),
        ({"workers": 1, "time_limit": 0}, "time_limit: 0"),
        ({"workers": 1, "time_limit": float("nan")}, "time_limit: nan"),
        ({"workers": 1, "preload": ["no_such_thing.at_all"]}, "preload: no module named 'no_such_thing"),
    ],
)
def test_arguments_without_sense(arguments, message):
    with pytest.raises(UserError, match=message):
        LocalExecutor(double, **arguments)


def test_outcomes_need_the_with_statement():
    executor = LocalExecutor(double, 1, preload=())
    executor.submit("0", 0)
    with pytest.raises(TypeError, match="with executor"):
        next(executor.completed())


def test_large_payloads_and_results():
    found = outcomes(double, [b"x" * 20_000_000, b"y" * 20_000_000])
    assert len(found["0"].result) == len(found["1"].result) == 40_000_000


def test_an_idle_worker_that_is_killed_is_replaced():
    with LocalExecutor(misbehave, 1, preload=()) as executor:
        for number in range(3):
            executor.submit(str(number), "pid")
            (outcome,) = executor.completed()
            os.kill(outcome.result, signal.SIGKILL)
            time.sleep(0.1 * number)  # found dead by the next payload, or before it


@LINUX
def test_a_fork_server_that_is_killed_at_work_is_no_exit_status():
    with LocalExecutor(misbehave, 2, preload=()) as executor:
        executor.submit("0", "pid")
        (outcome,) = executor.completed()
        server = int(Path(f"/proc/{outcome.result}/stat").read_text().rpartition(")")[2].split()[1])
        executor.submit("killed", "kill parent")
        executor.submit("own status", "exit 255")
        deaths = {outcome.key: outcome.failure for outcome in executor.completed()}
        assert not Path(f"/proc/{server}/exe").exists()
    assert deaths["killed"] == WorkerDied(None)
    assert deaths["own status"] in (WorkerDied(255), WorkerDied(None))


@LINUX
def test_a_worker_killed_for_want_of_memory_says_so(tmp_path, monkeypatch):
    low_limit(tmp_path, monkeypatch)
    death = outcomes(misbehave, ["SIGKILL"])["0"].failure
    assert (death.exitcode, death.signal) == (-9, "SIGKILL")
    assert "1 of 100 MiB of memory were left" in death.memory
    assert outcomes(misbehave, ["SIGTERM"])["0"].failure == WorkerDied(-15, "SIGTERM")


@LINUX
def test_the_fork_server_may_be_killed():
    with LocalExecutor(misbehave, 2, preload=()) as executor:
        executor.submit("0", "pid")
        (outcome,) = executor.completed()
        server = int(Path(f"/proc/{outcome.result}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(server, signal.SIGKILL)
        for number in range(4):
            executor.submit(str(number), "fine")
        # What ran at that moment counts as a death; the others run in workers of a new fork server.
        assert all(found.result == "fine" or isinstance(found.failure, WorkerDied) for found in executor.completed())
        executor.submit("last", "fine")
        assert [found.result for found in executor.completed()] == ["fine"]


def test_a_worker_that_always_dies_early_is_an_error():
    # The function is unpickled when a worker gets ready, before it takes any payload.
    class Deadly:
        def __call__(self, value):
            return value

        def __reduce__(self):
            return (os._exit, (7,))

    with LocalExecutor(Deadly(), 1, preload=()) as executor:
        executor.submit("0", 0)
        with pytest.raises(RuntimeError, match="keep dying"):
            list(executor.completed())


def test_leaving_early_ends_the_workers_at_once():
    start = time.monotonic()
    with LocalExecutor(misbehave, 2, preload=()) as executor:
        for number, way in enumerate(["fine", "deaf", "loop", "loop"]):
            executor.submit(str(number), way)
        for _ in executor.completed():
            break
    assert time.monotonic() - start < 4
    assert not multiprocessing.active_children()


def test_the_parents_environment_reaches_workers_that_start_later(monkeypatch):
    outcomes(double, [1])  # the fork server runs from here on
    monkeypatch.setenv("TRAINOFF_TEST", "late")
    before = dict(os.environ)
    found = outcomes(lambda _: (os.environ.get("TRAINOFF_TEST"), os.environ["OMP_NUM_THREADS"]), [1])
    assert found["0"].result == ("late", "1")
    assert dict(os.environ) == before
