"""What is printed: in any encoding, to a full disk, to nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from running_suites import execute, make_data

from trainoff.command_line import main

RECIPES = {"sgd": {"optimizer": "sgd"}, "adamw": {"optimizer": "adamw"}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    execute(make_data(RECIPES, seeds=3), folder)
    return str(folder)


def call(*arguments, encoding="utf-8", stdout=subprocess.PIPE):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    return subprocess.run(
        [sys.executable, "-m", "trainoff", *arguments],
        env=environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_of_another_encoding_gets_what_it_can_show(encoding, finished):
    for arguments in (["board", finished], ["show", "l2"], ["compare", finished, "sgd", "adamw"]):
        done = call(*arguments, encoding=encoding)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.decode(encoding)
    sign = "±" if encoding == "cp1252" else "?"
    assert f" {sign} 0." in call("board", finished, encoding=encoding).stdout.decode(encoding)


@pytest.mark.parametrize("format", ["markdown", "html", "csv", "json", "latex"])
def test_documents_are_utf_8_whatever_the_locale(format, finished):
    done = call("board", finished, "--format", format, encoding="ascii")
    assert done.returncode == 0
    assert done.stdout == call("board", finished, "--format", format).stdout
    assert done.stdout.decode("utf-8")


def test_facts_lose_no_character_in_an_ascii_terminal(capsys):
    (shown,) = json.loads(call("show", "l2", "--json", encoding="ascii").stdout)
    assert main(["show", "l2", "--json"]) == 0
    assert shown == json.loads(capsys.readouterr().out)[0]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no device that is always full")
def test_a_full_disk_is_one_line(finished):
    for arguments in (["board", finished], ["list", "optimizers"], ["board", finished, "--json"]):
        with open("/dev/full", "wb") as full:
            done = call(*arguments, stdout=full)
        assert done.returncode == 2
        assert done.stderr == b"trainoff: standard output cannot be written: No space left on device\n"


def test_a_reader_that_has_gone_is_no_error(finished):
    reading, writing = os.pipe()
    os.close(reading)
    done = call("board", finished, stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_other_errors_of_the_system_are_not_taken_for_a_full_disk(monkeypatch):
    def fail(_):
        raise OSError(28, "No space left on device", "a-file")

    monkeypatch.setattr("trainoff.command_line._run", fail)
    with pytest.raises(OSError, match="a-file"):
        main(["list"])
