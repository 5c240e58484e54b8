from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path

import cloudpickle
import pytest
from running_suites import low_limit

from trainoff.benchmarks.executors.local import LocalExecutor, Outcome, Raised, TimedOut, WorkerDied
from trainoff.errors import UserError

# Workers cannot import this file by its name.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


def double(value):
    return value * 2


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


def outcomes(function, payloads, workers=2, **arguments) -> dict[str, Outcome]:
    with LocalExecutor(function, workers, preload=(), **arguments) as executor:
        for number, payload in enumerate(payloads):
            executor.submit(str(number), payload)
        return {outcome.key: outcome for outcome in executor.completed()}


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


# --- in a process of its own: preloading, main scripts, signals ---------------------------------------------------


def script(tmp_path: Path, source: str) -> Path:
    path = tmp_path / "unguarded.py"
    path.write_text(textwrap.dedent(source))
    return path


def ran(*command: str, text: str = "", seconds: float = 60, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        input=text,
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


MAIN = """
    import sys
    from trainoff.benchmarks.executors.local import LocalExecutor

    print("main runs", flush=True)

    class Mine:
        def __init__(self, value):
            self.value = value

    def work(mine):
        assert type(mine) is Mine
        return Mine(mine.value + 1)

    with LocalExecutor(work, 2, preload=()) as executor:
        for value in range(4):
            executor.submit(str(value), Mine(value))
        found = list(executor.completed())
    assert all(type(outcome.result) is Mine for outcome in found), found
    print(sorted(outcome.result.value for outcome in found), sys.modules["__main__"].work is work)
"""


@pytest.mark.parametrize("way", ["script", "command", "stdin", "module"])
def test_main_classes_work_and_main_is_not_run_again(tmp_path, way):
    path = script(tmp_path, MAIN)
    if way == "script":
        output = ran(str(path))
    elif way == "command":
        output = ran("-c", path.read_text())
    elif way == "stdin":
        output = ran("-", text=path.read_text())
    else:
        output = ran("-m", "unguarded", PYTHONPATH=str(tmp_path))
    assert output == "main runs\n[1, 2, 3, 4] True\n"


def test_torch_is_preloaded_with_one_thread(tmp_path):
    output = ran(
        str(
            script(
                tmp_path,
                """
                import os, time
                from trainoff.benchmarks.executors.local import LocalExecutor

                def work(value):
                    import sys
                    torch = sys.modules["torch"]
                    (torch.ones(300, 300) @ torch.ones(300, 300)).sum().backward  # a threaded operation, if any
                    return torch.get_num_threads(), os.environ["OMP_NUM_THREADS"], "lightning" in sys.modules

                with LocalExecutor(work, 2) as executor:
                    for value in range(4):
                        executor.submit(str(value), value)
                    print({outcome.result or outcome for outcome in executor.completed()})
                """,
            )
        ),
        OMP_NUM_THREADS="2",
    )
    assert output == "{(1, '1', True)}\n"


PRELOADING = """
    import multiprocessing, warnings
    from trainoff.benchmarks.executors.local import LocalExecutor
    {before}

    def work(value):
        import sys
        return "odd_module" in sys.modules

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with LocalExecutor(work, 2, preload=["odd_module"]) as executor:
            for value in range(6):
                executor.submit(str(value), value)
            found = list(executor.completed())
    print([outcome.result for outcome in found], [str(warning.message) for warning in caught])
    print({{type(outcome.failure.exception).__name__ for outcome in found if outcome.failure}})
"""


@pytest.mark.parametrize(
    ("module", "before", "result", "failures"),
    [
        ("", "", "True", "set()"),  # preloaded
        ("import os\nif not os.environ.get('READY'): raise ImportError", "", "None", "{'ImportError'}"),
        ("raise ValueError('broken module')", "", "None", "{'ValueError'}"),  # ends the fork server
        (
            "",
            "multiprocessing.get_context('forkserver').Pool(1).terminate()",  # a fork server is there already
            "True",
            "set()",
        ),
    ],
)
def test_a_preload_that_fails_is_told_once(tmp_path, module, before, result, failures):
    (tmp_path / "odd_module.py").write_text(module)
    source = "if __name__ == '__main__':\n" + textwrap.indent(
        textwrap.dedent(PRELOADING.format(before=before)), "    "
    )
    output = ran(str(script(tmp_path, source)), PYTHONPATH=str(tmp_path), OMP_NUM_THREADS="1").splitlines()
    told = ["each worker imports it"] if before else []
    assert output[0].startswith(f"[{', '.join([result] * 6)}]")
    assert output[0].count("did not preload") == len(told)
    assert output[1] == failures


def session(leader: int) -> list[int]:
    """Processes of a session that live (no zombies)."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, _, of = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            except OSError:  # it has just ended
                continue
            if int(of) == leader and state != "Z":
                found.append(int(entry.name))
    return found


LONG = """
    import os, sys, time
    from trainoff.benchmarks.executors.local import LocalExecutor

    def work(way):
        os.write(1, b"started\\n")  # at once: print writes the end of the line by itself, and three workers print
        if way == "loop":
            while True:
                pass
        if way == "child":
            import multiprocessing
            multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,)).start()
        time.sleep(60)

    with LocalExecutor(work, 3, preload=()) as executor:
        for way in ("sleep", "loop", "child"):
            executor.submit(way, way)
        try:
            for outcome in executor.completed():
                print(outcome, flush=True)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            raise
"""


def long_run(tmp_path) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, str(script(tmp_path, LONG))], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    for _ in range(3):
        assert process.stdout.readline() == "started\n"
    time.sleep(0.3)  # for the child of the third to start
    return process


@LINUX
def test_nothing_outlives_a_killed_parent(tmp_path):
    process = long_run(tmp_path)
    try:
        assert len(session(process.pid)) >= 6  # parent, fork server, resource tracker, three workers, one child
        process.kill()
        process.wait()
        deadline = time.monotonic() + 3
        while session(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert session(process.pid) == []
    finally:
        for pid in session(process.pid):
            os.kill(pid, signal.SIGKILL)


@LINUX
def test_ctrl_c_ends_all_within_two_seconds(tmp_path):
    process = long_run(tmp_path)
    try:
        start = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does
        rest = process.stdout.read()
        process.wait(timeout=10)
        assert time.monotonic() - start < 2
        assert rest == "interrupted\n"  # no worker was hit, no outcome made up
        time.sleep(0.3)
        assert session(process.pid) == []
    finally:
        for pid in session(process.pid):
            os.kill(pid, signal.SIGKILL)


@LINUX
def test_ctrl_c_while_the_fork_server_imports(tmp_path):
    (tmp_path / "slow_module.py").write_text("import time\nopen('importing', 'w').close()\ntime.sleep(2)\n")
    path = script(tmp_path, LONG.replace("preload=()", "preload=['slow_module']"))
    process = subprocess.Popen(
        [sys.executable, str(path)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    try:
        while not (tmp_path / "importing").exists() and process.poll() is None:
            time.sleep(0.05)
        start = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        assert time.monotonic() - start < 4
        assert errors.count("Traceback") == 1, errors  # the parent's own; the others end in silence
        time.sleep(0.5)
        assert session(process.pid) == []
    finally:
        for pid in session(process.pid):
            os.kill(pid, signal.SIGKILL)


def test_overhead_of_a_payload():
    with LocalExecutor(double, 2, preload=()) as executor:
        executor.submit("first", 0)
        list(executor.completed())
        start = time.monotonic()
        for number in range(300):
            executor.submit(str(number), number)
        assert sum(1 for _ in executor.completed()) == 300
        assert (time.monotonic() - start) / 300 < 0.02  # 0.001 on a quiet machine


def test_no_notice_in_ordinary_use():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        output = ran("-W", "error", "-c", "from trainoff.benchmarks.executors import local")
    assert output == ""
