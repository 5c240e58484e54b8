"""How an executor is named, in Python and on the command line; nothing is run."""

from __future__ import annotations

import sys

import pytest
from running_suites import execute, make_data, records_of

import trainoff
from trainoff.benchmarks.executors.choice import ExecutorChoice, default_workers
from trainoff.benchmarks.executors.registry import EXECUTORS
from trainoff.command_line import EXECUTORS as ON_THE_COMMAND_LINE
from trainoff.command_line import main
from trainoff.commands.run import _executor
from trainoff.errors import UserError


def test_the_command_line_knows_those_that_there_are():
    assert list(ON_THE_COMMAND_LINE) == EXECUTORS.names()
    assert [entry.load().__name__ for entry in EXECUTORS] == ["LocalExecutor", "RayExecutor", "SlurmExecutor"]


def test_a_name_is_the_executor_with_its_defaults():
    assert ExecutorChoice.of(None) == ExecutorChoice.of("local") == ExecutorChoice.of({"name": "local"})
    assert ExecutorChoice.of(None).local_workers() == default_workers()
    assert ExecutorChoice.of({"name": "local", "cpus": 10**6}).local_workers() == 1
    choice = ExecutorChoice.of({"name": "slurm", "gpus": 2, "partition": "big"}, workers=5)
    assert (choice.gpus, choice.workers, choice.options) == (2, 5, {"partition": "big"})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("rya", "no executor is called 'rya'.*ray.*there are local, ray, slurm"),
        ({"name": "ray", "adress": "auto"}, "ray takes no 'adress'.*address.*it takes cpus, gpus, address"),
        ({"name": "local", "address": "auto"}, "local takes no 'address'.*it takes cpus, gpus"),
        ({"name": "local", "cpus": 0}, "cpus: 0 is not a whole number from 1"),
        ({"name": "ray", "gpus": 0.5}, r"gpus: 0\.5 is not a whole number from 0"),
        (3, "executor: 3 is neither a name nor a mapping"),
        ("my.Executor", r"no executor is called 'my\.Executor'"),
    ],
)
def test_mistakes_are_one_line(given, said):
    with pytest.raises(UserError, match=said) as caught:
        ExecutorChoice.of(given)
    assert "\n" not in str(caught.value)


def test_python_takes_the_same(tmp_path):
    with pytest.raises(UserError, match="no executor is called 'slrum'"):
        trainoff.run("smoke", out=tmp_path / "run", executor="slrum")
    with pytest.raises(UserError, match="workers: 0 is not a whole number from 1"):
        trainoff.run("smoke", out=tmp_path / "run", workers=0)
    with pytest.raises(UserError, match="--memory-limit: 'much' is no size"):
        trainoff.run("smoke", out=tmp_path / "run", memory_limit="much")
    assert not (tmp_path / "run").exists()


def from_command_line(*arguments):
    from trainoff.command_line import _parser

    return _executor(_parser()[0].parse_args(["run", "smoke", *arguments]))


def test_options_of_the_command_line_are_those_of_python():
    assert from_command_line() == {"name": "local"}
    words = ["--executor", "ray", "--address", "auto", "--cpus", "2", "--gpus", "1"]
    assert from_command_line(*words) == {"name": "ray", "address": "auto", "cpus": 2, "gpus": 1}
    words = ["--executor", "slurm", "--slurm", "partition=gpu", "--slurm", "exclusive", "--slurm", "comment=a=b"]
    assert from_command_line(*words) == {"name": "slurm", "partition": "gpu", "exclusive": True, "comment": "a=b"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--executor", "rya"], "invalid choice: 'rya'"),
        (["--address", "auto"], "--address: is for --executor ray"),
        (["--slurm", "time=5"], "--slurm: 'time=5' is for --executor slurm"),
        (["--executor", "slurm", "--slurm", "=5"], "--slurm: '=5' is no option"),
        (["--memory-limit", "lots"], "--memory-limit: 'lots' is no size of memory"),
        (["--gpus", "-1"], "--gpus"),
        (["--executor", "slurm", "--slurm", "time=soon"], "--slurm time: 'soon' is no time"),
        (["--executor", "slurm"], "--slurm: say how long a job may take"),
    ],
)
def test_the_command_line_answers_in_one_line(arguments, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "smoke", *arguments]) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize(("package", "name"), [("ray", "ray"), ("submitit", "slurm")])
def test_a_missing_package_is_one_line(package, name, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    options = ["--slurm", "time=5"] if name == "slurm" else []
    assert main(["run", "smoke", "--out", str(tmp_path / "run"), "--executor", name, *options]) == 2
    assert f"{package} is not installed; pip install 'trainoff[{name}]'" in capsys.readouterr().err


def test_a_dry_run_names_the_executor(tmp_path, capsys):
    out = str(tmp_path / "run")
    assert main(["run", "smoke", "--out", out, "--executor", "ray", "--dry-run"]) == 0
    assert "6 trials on ray, into" in capsys.readouterr().out


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_a_limit_that_torch_alone_is_over_says_so(tmp_path):
    """The worker is ended as it starts, or just after it took the trial: one line, or a record."""
    data = make_data({"sgd": {"optimizer": "sgd"}}, memory_limit="30MB", epochs=2000)
    try:
        execute(data, tmp_path)
    except UserError as error:
        said = str(error)
        assert said.startswith("memory_limit: too little: a worker was ended before its first trial")
    else:
        (record,) = records_of(tmp_path).values()
        assert record.status == "out_of_memory"
        said = record.error.message
    assert "over its limit of 29 MiB" in said


def test_a_trial_on_several_gpus_gets_as_many(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4")
    choice = ExecutorChoice.of(None, workers=None)
    assert choice.for_processes(1) == choice
    for processes, workers in ((2, min(2, default_workers())), (5, 1), (8, 1)):
        made = choice.for_processes(processes)
        assert (made.gpus, made.workers) == (processes, workers)
    assert ExecutorChoice.of({"name": "local", "gpus": 1}).for_processes(2).gpus == 1
    assert ExecutorChoice.of("ray").for_processes(2).gpus is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert choice.for_processes(2) == choice
