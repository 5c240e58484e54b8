"""Runs written without a network and sent later by W&B's own command; records brought back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from published_runs import expect_whole
from publishing_records import records, run_folder
from wandb_server import ENTITY

from trainoff import read_board
from trainoff.benchmarks.store import RunFolder
from trainoff.command_line import main
from trainoff.errors import UserError
from trainoff.leaderboards.publishing.publish import publish
from trainoff.leaderboards.publishing.pull import pull


def test_offline_runs_are_what_wandb_sync_takes(server, folder, monkeypatch, capsys):
    url = server.url
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody is there
    monkeypatch.delenv("WANDB_API_KEY")
    assert main(["publish", str(folder), "--project", "p", "--entity", ENTITY, "--offline"]) == 0
    said = capsys.readouterr().out
    made = records()
    assert f"{len(made)} runs written" in said
    assert f"Report: {folder / 'report.html'}" in said
    written = sorted((folder / "wandb").glob("offline-run-*"))
    assert len(written) == len(made) + 1, "the board's artifact has a run of its own"
    assert server.requests == []

    assert main(["publish", str(folder), "--project", "p", "--entity", ENTITY, "--offline"]) == 0
    assert f"0 runs written, {len(made)} there already" in capsys.readouterr().out
    assert sorted((folder / "wandb").glob("offline-run-*")) == written

    environment = {**os.environ, "WANDB_BASE_URL": url, "WANDB_API_KEY": "0123456789abcdef" * 2 + "01234567"}
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", *map(str, written)],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expect_whole(server, made)
    (artifact,) = server.artifacts
    assert artifact["state"] == "COMMITTED"
    assert "board.html" in artifact["files"]

    # What was synced is up: publishing it adds nothing to it.
    monkeypatch.setenv("WANDB_BASE_URL", url)
    monkeypatch.setenv("WANDB_API_KEY", environment["WANDB_API_KEY"])
    publish(folder, "p")
    expect_whole(server, made)


@pytest.mark.slow
def test_records_of_several_machines_become_one_board(server, tmp_path):
    made = records()
    one = run_folder(tmp_path / "one", made[:7])
    other = run_folder(tmp_path / "other", made[5:])
    publish(one, "p", with_report=False)
    publish(other, "p", with_report=False)
    assert len(server.runs["p"]) == len(made) + 2, "two trials ran on both machines, each as a run of its own"

    whole = tmp_path / "whole"
    done = pull("p", whole)
    assert (done.written, done.found) == (len(made), 2)
    found, problems = RunFolder(whole).read_all()
    assert problems == []
    assert found == {record.trial.id: record for record in made}
    direct = run_folder(tmp_path / "direct", made)
    (direct / "suite.yaml").unlink()
    assert read_board(whole).to_dicts() == read_board(direct).to_dicts()

    again = pull("p", whole)
    assert again.written == 0
    # Published from there, each is the run that it came from.
    count = len(server.runs["p"])
    assert publish(whole, "p", with_report=False).uploaded == 0
    assert len(server.runs["p"]) == count


@pytest.mark.slow
def test_a_record_that_is_there_stays_as_it_is(server, tmp_path, folder):
    publish(folder, "p", with_report=False)
    mine = tmp_path / "mine"
    shutil.copytree(folder, mine)
    made = records()
    changed = mine / "records" / f"{made[0].trial.id}.json"
    changed.write_bytes(changed.read_bytes().replace(b'"seed": 0', b'"seed": 7'))
    before = changed.read_bytes()
    done = pull("p", mine)
    assert (done.written, done.found) == (0, len(made))
    assert changed.read_bytes() == before


def test_a_run_whose_record_cannot_be_read_is_named_and_skipped(server, folder, tmp_path):
    publish(folder, "p", with_report=False)
    made = records()
    broken = server.run_of("p", made[0].trial.id)
    broken.files["trainoff-record.json"] = b'{"schema_version": 99}'
    hostile = server.run_of("p", made[1].trial.id)
    hostile.files["trainoff-record.json"] = hostile.files["trainoff-record.json"].replace(
        made[1].trial.id.encode(), b"../../etc/passwd"
    )
    done = pull("p", tmp_path / "pulled")
    assert done.written == len(made) - 2
    assert any(broken.name in note and "newer trainoff" in note for note in done.notes)
    assert any(hostile.name in note for note in done.notes)


@pytest.mark.slow
def test_pulling_from_a_server_that_fails_every_third_request(server, folder, tmp_path):
    publish(folder, "p", with_report=False)
    server.refuse_every = 3
    for _ in range(4):  # what one call could not fetch, a later one does
        try:
            pull("p", tmp_path / "pulled")
            break
        except UserError as error:
            said = str(error)
            assert said.endswith("run the same command again")
    found, _ = RunFolder(tmp_path / "pulled").read_all()
    assert found == {record.trial.id: record for record in records()}


def test_a_project_without_our_runs_is_one_line(server, tmp_path, capsys):
    server.projects.add("empty")
    assert main(["pull", "empty", "--out", str(tmp_path / "out")]) == 2
    assert "holds no runs that trainoff published" in capsys.readouterr().err
    assert main(["pull", "nowhere", "--out", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "nowhere" in lines[0]
    assert not (tmp_path / "out").exists()
