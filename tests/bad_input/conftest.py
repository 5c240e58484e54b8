"""A working directory, a finished run, and the line that a command is refused with."""

from __future__ import annotations

import pytest
from command_runs import RECIPES, contents
from running_suites import execute, make_data

from trainoff.command_line import main


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working directory."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run folder with two recipes on two seeds, to be copied and never changed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    execute(make_data({**RECIPES, "adamw": {"optimizer": "adamw", "batch": 64}}, seeds=2), folder)
    return folder


@pytest.fixture
def refused(place, capsys):
    """The one line that a command is refused with."""

    def refused_(*arguments, written=()):
        before = contents(place)
        assert main([str(argument) for argument in arguments]) == 2
        output, errors = capsys.readouterr()
        assert output == ""
        assert errors.startswith("trainoff: ")
        assert errors.endswith("\n")
        assert errors.count("\n") == 1, errors
        assert contents(place).keys() - before.keys() <= set(written)
        assert all(contents(place)[path] == content for path, content in before.items())
        return errors.removeprefix("trainoff: ").rstrip("\n")

    return refused_
