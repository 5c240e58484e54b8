"""The local executor in a process of its own: preloading, main scripts, signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import pytest
from executing_payloads import LINUX, double

from trainoff.benchmarks.executors.local import LocalExecutor


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
