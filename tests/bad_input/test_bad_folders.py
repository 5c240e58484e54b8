"""Users' mistakes with run folders, and dry runs: nothing written or lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from command_runs import RECIPES, contents, write_suite
from running_suites import make_data

from trainoff.benchmarks.suite_yaml import dump_yaml
from trainoff.command_line import main


def test_an_empty_folder_has_no_board(refused, place):
    (place / "empty").mkdir()
    assert "empty: holds no records" in refused("board", "empty")
    (place / "empty" / "records").mkdir()
    assert "empty: holds no records" in refused("board", "empty")


def test_compare_names_the_recipes_that_there_are(refused, finished):
    said = refused("compare", finished, "sgd", "adam")
    assert "no recipe is called 'adam'; did you mean adamw?" in said
    assert "the board has" in said
    assert "compared with itself" in refused("compare", finished, "sgd", "sgd")


def test_compare_shows_both(finished, capsys):
    assert main(["compare", str(finished), "sgd", "adamw"]) == 0
    shown = capsys.readouterr().out
    assert "sgd" in shown
    assert "adamw" in shown
    assert main(["compare", str(finished), "sgd", "adamw", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["first"], facts["second"]) == ("sgd", "adamw")
    assert facts["tasks"][0]["pairs"] == 2


# --- the run folder ---------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_is_refused(refused, place):
    write_suite(place)
    (place / "file").write_text("mine")
    assert "file/run: is a file, or lies in one" in refused("run", "s.yaml", "--out", "file/run")
    assert "file: is a file, or lies in one" in refused("run", "s.yaml", "--out", "file")
    assert "/proc/nowhere: cannot be used as a run folder" in refused("run", "s.yaml", "--out", "/proc/nowhere")


def test_a_folder_of_another_suite_is_refused(refused, place, finished):
    (place / "s.yaml").write_text(dump_yaml(make_data(RECIPES) | {"name": "other"}))
    said = refused("run", "s.yaml", "--out", finished)
    assert said == f"{finished}: holds the suite 'small', not 'other'; give another --out"


def test_a_folder_whose_suite_is_damaged_is_refused(refused, place):
    write_suite(place)
    (place / "run").mkdir()
    (place / "run" / "suite.yaml").write_text("name: [")
    said = refused("run", "s.yaml", "--out", "run", written=[str(place / "run" / ".lock")])
    assert "run/suite.yaml:1" in said


def test_strange_files_among_the_records_are_reported_and_kept(place, capsys):
    write_suite(place)
    records = place / "run" / "records"
    records.mkdir(parents=True)
    strange = {
        "0123456789abcdef.json": b'{"schema_version": 1, "trial": {"id"',
        "foreign.json": b'{"hello": "world"}',
        "newer.json": b'{"schema_version": 99, "trial": {}}',
        "binary.json": bytes(range(256)),
    }
    for name, content in strange.items():
        (records / name).write_bytes(content)
    assert main(["run", "s.yaml", "--out", "run"]) == 0
    errors = capsys.readouterr().err
    for name in strange:
        (line,) = [line for line in errors.splitlines() if line.startswith(f"{name} is skipped: ")]
        if name == "newer.json":
            assert "written by a newer trainoff (record schema 99; this version reads up to" in line
    assert {name: (records / name).read_bytes() for name in strange} == strange
    assert len(list(records.glob("*.json"))) == len(strange) + 1
    assert main(["board", "run"]) == 0
    assert all(name in capsys.readouterr().out for name in list(strange)[:1])


def test_the_second_of_two_runs_on_one_folder_says_who_holds_it(refused, place):
    """A process that holds the folder, as a run does, and the command line beside it."""
    write_suite(place)
    code = "import sys, time; from trainoff.benchmarks.store import RunFolder\n"
    code += "with RunFolder('run'): print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code], cwd=place, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        said = refused("run", "s.yaml", "--out", "run")
        assert said.startswith(f"run folder run is in use by process {holder.pid} on host ")
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate(timeout=30)
    # Killed, it holds nothing any more.
    assert main(["run", "s.yaml", "--out", "run", "--dry-run"]) == 0


# --- dry runs ---------------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_would_be_run_and_writes_nothing(place, finished, capsys):
    write_suite(place, recipe={"optimizer": {"name": "sgd", "lr": {"tune": [0.1, 0.2]}}, "batch": 64})
    assert main(["run", "s.yaml", "--dry-run", "--workers", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"suite small: 3 trials on 2 workers, into {Path('runs/small')}; 0 finished",
        "  t  sgd: 2 tuning + 1 final trials, 0 finished",
    ]
    assert not (place / "runs").exists()
    before = contents(finished)
    assert main(["run", "s.yaml", "--dry-run", "--out", str(finished), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["trials"], facts["finished"]) == (3, 0)
    assert facts["pairs"] == [{"task": "t", "recipe": "sgd", "tuning": 2, "final": 1, "finished": 0}]
    # A final trial of a value that may yet be chosen stays; adamw has gone from the suite.
    assert facts["notes"] == ["to be set aside: 2 records: no longer in the suite (adamw on t)"]
    assert contents(finished) == before


def test_a_dry_run_after_a_run_finds_all_finished(finished, place, capsys):
    (place / "s.yaml").write_text((finished / "suite.yaml").read_text())
    for rerun, count in ((), 4), (("--rerun", "failed"), 4), (("--rerun", "all"), 0):
        assert main(["run", "s.yaml", "--dry-run", "--json", "--out", str(finished), *rerun]) == 0
        assert json.loads(capsys.readouterr().out)["finished"] == count


# --- as a process -----------------------------------------------------------------------------------------------


def test_the_console_script_says_the_same_and_finds_classes_of_the_working_directory(place):
    """A process of its own: no warning, no traceback, nothing but the line."""
    (place / "module_of_a_user.py").write_text("import torch\nclass Mine(torch.optim.SGD): pass\n")
    mine = {"optimizer": {"class_path": "module_of_a_user.Mine", "init_args": {"lr": 0.1}}, "batch": 64}
    write_suite(place, recipe=mine)
    script = str(Path(sys.executable).with_name("trainoff"))
    command = [script] if Path(script).exists() else [sys.executable, "-m", "trainoff"]

    def call(*arguments):
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(
            [*command, *arguments],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    status, output, errors = call("run", "s.yaml", "--dry-run")
    assert (status, errors) == (0, "")
    assert "1 final trials, 0 finished" in output
    write_suite(place, recipe={"optimizer": {"name": "sgd", "lr": -1}})
    status, output, errors = call("run", "s.yaml")
    assert (status, output) == (2, "")
    line = (place / "s.yaml").read_text().splitlines().index("      lr: -1") + 1
    assert errors == f"trainoff: s.yaml:{line}: recipes.sgd.optimizer.lr: a learning rate of -1 is negative\n"
