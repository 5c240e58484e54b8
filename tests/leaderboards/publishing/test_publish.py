"""`trainoff publish` against the stub server, with the real client and the real Report library."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from published_runs import expect_whole
from publishing_records import many, records, run_folder
from wandb_server import ENTITY, KEY

from trainoff import read_board
from trainoff.benchmarks.record import to_json
from trainoff.errors import UserError
from trainoff.leaderboards.publishing.ledger import Ledger
from trainoff.leaderboards.publishing.publish import publish
from trainoff.leaderboards.publishing.server_check import check


def test_everything_arrives_once_and_a_second_publish_changes_nothing(server, folder):
    before = {path.name: path.read_bytes() for path in (folder / "records").iterdir()}
    done = publish(folder, "p")
    made = records()
    assert (done.uploaded, done.found) == (len(made), 0)
    expect_whole(server, made)
    assert {path.name: path.read_bytes() for path in (folder / "records").iterdir()} == before

    # The board and the records, as an artifact that they can be read from again.
    (artifact,) = server.artifacts
    assert artifact["state"] == "COMMITTED"
    assert artifact["input"]["artifactTypeName"] == "trainoff-board"
    files = artifact["files"]
    manifest = json.loads(files["wandb_manifest.json"])["contents"]
    assert set(manifest) == set(files) - {"wandb_manifest.json"} >= {"board.html", "board.md", "suite.yaml"}
    assert {name for name in files if name.startswith("records/")} == {f"records/{r.trial.id}.json" for r in made}

    # The Report, and its address.
    (view,) = server.views.values()
    assert done.address.startswith(f"{server.url}/{ENTITY}/p/reports/")
    assert done.address.endswith(f"--{view['id']}")

    requests, views = len(server.requests), dict(server.views)
    lines = (folder / "wandb.jsonl").read_bytes()
    again = publish(folder, "p")
    assert (again.uploaded, again.found, again.has_changed) == (0, len(made), False)
    assert again.address == done.address
    assert (folder / "wandb.jsonl").read_bytes() == lines
    assert (server.views, len(server.artifacts)) == (views, 1)
    said = " ".join(server.requests[requests:])
    for word in ("UpsertBucket", "upsertView", "CreateArtifact", "file_stream", "PUT"):
        assert word not in said
    expect_whole(server, made)


def loaded(address):
    """The types of a Report's blocks, read by the library in a process of its own: it keeps to its first server."""
    code = (
        "import json, sys; import wandb_workspaces.reports.v2 as wr\n"
        "print(json.dumps([type(block).__name__ for block in wr.Report.from_url(sys.argv[1]).blocks]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, address], capture_output=True, text=True, timeout=60, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_the_report_names_what_the_runs_have(server, folder):
    done = publish(folder, "p")
    (view,) = server.views.values()
    spec = json.loads(view["spec"])
    blocks = [
        block for block in spec["blocks"] if block.get("children") != [{"text": ""}] or block["type"] != "paragraph"
    ]
    board = read_board(folder)
    assert blocks[0]["type"] == "callout-block"
    assert blocks[0]["children"][0]["children"][0]["text"] == board.verdict()
    headings = [block["children"][0]["text"] for block in blocks if block["type"] == "heading"]
    assert headings == ["What was compared", "Standings", "Quality against time", "Overfitting", "Learning curves",
                        "Hyperparameters", "Failures", "How to reproduce"]  # fmt: skip
    tables = [block["content"] for block in blocks if block["type"] == "markdown-block"]
    assert any("adamw" in table and "test accuracy" in table for table in tables)
    assert len(loaded(done.address)) == len(blocks), "as the library reads it again"
    grids = [block["metadata"] for block in blocks if block["type"] == "panel-grid"]
    assert [[panel["viewType"] for panel in grid["panelBankSectionConfig"]["panels"]] for grid in grids] == [
        ["Scatter Plot"] * 2, ["Bar Chart"] * 2, ["Run History Line Plot"] * 4, ["Parallel Coordinates Plot"],
    ]  # fmt: skip

    # Every metric, figure and key that a panel names is in a run that its grid shows.
    runs = server.runs["p"].values()
    for grid in grids:
        (runset,) = grid["runSets"]
        assert (runset["project"]["name"], runset["project"]["entityName"]) == ("p", ENTITY)
        wanted = {each["key"]["name"]: each["value"] for each in runset["filters"]["filters"]}
        shown = [run for run in runs if run.values.get("stage") == wanted["stage"] and run.group in wanted["group"]]
        assert len(shown) == (4 if wanted["stage"] == "tune" else 6)
        assert wanted["suite"] == "a-suite"
        logged = {key for run in shown for row in run.history for key in row}
        figures = {key for run in shown for key in run.summary}
        for panel in grid["panelBankSectionConfig"]["panels"]:
            config = panel["config"]
            if panel["viewType"] == "Run History Line Plot":
                assert {config["xAxis"], *config["metrics"]} <= logged
                assert config["groupBy"] == "recipe.value"
            elif panel["viewType"] == "Scatter Plot":
                assert {config[axis].removeprefix("summary:") for axis in ("xAxis", "yAxis")} <= figures
            elif panel["viewType"] == "Bar Chart":
                assert set(config["metrics"]) <= figures
            else:
                *keys, last = (column["accessor"] for column in config["columns"])
                assert keys == ["config:recipe.value", "config:tuned.value.optimizer.lr"]
                assert last.removeprefix("summary:") in figures


@pytest.mark.slow
def test_new_records_are_added_and_the_same_report_is_updated(server, folder):
    made = records()
    late = folder / "records" / f"{made[-1].trial.id}.json"
    content = late.read_bytes()
    late.unlink()
    first = publish(folder, "p")
    late.write_bytes(content)
    second = publish(folder, "p")
    assert (second.uploaded, second.found, second.has_changed) == (1, len(made) - 1, True)
    assert second.address == first.address
    assert (len(server.views), len(server.artifacts)) == (1, 2)
    expect_whole(server, made)


@pytest.mark.slow
def test_what_was_deleted_meanwhile_is_made_anew(server, folder):
    publish(folder, "p")
    made = records()
    gone = server.run_of("p", made[0].trial.id).name
    server.delete_run("p", gone)
    server.views.clear()
    done = publish(folder, "p")
    assert (done.uploaded, done.found) == (1, len(made) - 1)
    assert gone not in server.runs["p"]
    assert len(server.views) == 1
    expect_whole(server, made)


@pytest.mark.slow
def test_a_trial_that_was_trained_again_supersedes_its_run(server, folder):
    publish(folder, "p")
    made = records()
    old = server.run_of("p", made[2].trial.id)
    made[2].curves.val_loss[-1] = 0.123
    (folder / "records" / f"{made[2].trial.id}.json").write_bytes(to_json(made[2]))
    done = publish(folder, "p")
    assert done.uploaded == 1
    assert "superseded" in done.notes[0]
    assert old.values["stage"] == "superseded", "the Report's panels are filtered by it"
    assert "superseded" in old.tags
    del server.runs["p"][old.name]
    expect_whole(server, made)


def test_what_looks_like_a_secret_reaches_nobody(server, folder):
    made = records()
    secret = "ghp_" + "a1B2c3D4e5" * 4
    made[2].trial.setting["api_key"] = "hunter2-hunter2"
    made[-1].error.message = f"cannot fetch https://me:{secret}@example.org"
    for record in made:
        (folder / "records" / f"{record.trial.id}.json").write_bytes(to_json(record))
    (folder / "suite.yaml").write_text((folder / "suite.yaml").read_text() + f"# {secret}\n")
    done = publish(folder, "p")
    assert "2 records held what looks like a secret" in done.notes[0]
    sent = b"".join(server.bodies)
    for word in (secret, "hunter2-hunter2", KEY):
        assert word.encode() not in sent
        for path in folder.rglob("*"):
            if path.is_file() and path.parent.name != "records" and path.name != "suite.yaml":
                assert word.encode() not in path.read_bytes(), path.name


# --- many, and servers that are not well ---------------------------------------------------------------------------


def test_a_hundred_trials(server, tmp_path):
    made = many(100)
    seen = []
    done = publish(run_folder(tmp_path / "run", made), "p", watch=lambda done, total: seen.append((done, total)))
    assert done.uploaded == 100
    expect_whole(server, made)
    assert seen[0] == (0, 100)
    assert seen[-1] == (100, 100)
    assert [count for count, _ in seen] == sorted(count for count, _ in seen)


@pytest.mark.slow
def test_a_server_that_fails_every_third_request_ends_complete(server, folder):
    server.refuse_every = 3
    publish(folder, "p")
    expect_whole(server, records())
    assert (len(server.views), len(server.artifacts)) == (1, 1)


@pytest.mark.slow
def test_a_server_that_breaks_in_the_middle_is_left_in_one_line_and_finished_later(server, folder):
    server.refuse_from = 60
    start = time.monotonic()
    with pytest.raises(UserError) as caught:
        publish(folder, "p", stall_seconds=4)
    assert time.monotonic() - start < 60
    assert "\n" not in str(caught.value)
    assert "again" in str(caught.value)
    server.refuse_from = None
    publish(folder, "p")
    expect_whole(server, records())


@pytest.mark.slow
def test_a_run_that_was_deleted_before_it_was_whole_gets_a_new_id(server, folder):
    """Nobody could know: W&B says so when the id is used again."""
    made = records()
    ledger = Ledger(folder, f"{server.url.removeprefix('http://')}/{ENTITY}/p")
    server.deleted.add(ledger.run_id(made[0].trial.id))
    publish(folder, "p", with_report=False)
    assert not server.deleted & server.runs["p"].keys()
    expect_whole(server, made)


@pytest.mark.slow
def test_a_server_that_hangs_in_the_middle_is_left_in_one_line_and_finished_later(server, folder):
    server.hang_from = 30
    start = time.monotonic()
    with pytest.raises(UserError) as caught:
        publish(folder, "p", stall_seconds=3, with_report=False)
    assert time.monotonic() - start < 20
    assert str(caught.value).endswith("nothing has arrived for 3 s; run the same command again later")
    server.hang_from = None
    publish(folder, "p", with_report=False)
    expect_whole(server, records())


def test_rights_that_only_the_runs_lack_are_one_line(server, folder):
    server.denies_runs = True
    with pytest.raises(UserError, match="no right to write to this project") as caught:
        publish(folder, "p", with_report=False)
    assert caught.value.where == f"{ENTITY}/p"


@pytest.mark.slow
def test_a_server_that_slows_down_ends_complete(server, folder):
    server.refuse_every, server.refuse_status = 3, 429
    publish(folder, "p", with_report=False)
    expect_whole(server, records())


FAULTS = {
    "status 500": (lambda server: setattr(server, "refuse", 500), "answers with status 500"),
    "status 429": (lambda server: setattr(server, "refuse", 429), "asks to slow down"),
    "a server that hangs": (lambda server: setattr(server, "silent", True), "does not answer within 4 s"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_is_not_well_is_one_line_within_five_seconds(fault, server, folder, capsys):
    spoil, said = FAULTS[fault]
    spoil(server)
    _expect_line(folder, capsys, said, server.url)


def test_no_server(server, folder, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    _expect_line(folder, capsys, "cannot be reached (Connection refused)", "http://127.0.0.1:9")


def test_a_wrong_key(server, folder, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", "f" * 40)
    _expect_line(folder, capsys, "does not know the API key", "wandb login")


def test_no_key(server, folder, monkeypatch, capsys):
    monkeypatch.delenv("WANDB_API_KEY")
    _expect_line(folder, capsys, "no API key for 127.0.0.1", "wandb login")


def test_a_key_from_the_netrc_file_serves(server, folder, monkeypatch):
    import os

    monkeypatch.delenv("WANDB_API_KEY")
    with open(os.environ["NETRC"], "w") as file:
        file.write(f"machine {server.url.removeprefix('http://')}\n  login user\n  password {KEY}\n")
    assert check("p").key == KEY


def test_a_project_without_rights(server, folder, capsys):
    server.projects.add("p")
    server.read_only = True
    _expect_line(folder, capsys, "no right to write", f"{ENTITY}/p")


def test_a_project_that_is_there_is_not_made_again(server, folder):
    """To change one takes more rights than to add runs to it."""
    server.projects.add("p")
    account = check("p")
    assert account.has_project
    assert not check("another").has_project
    publish(folder, "p", with_report=False)
    assert not any("CreateProject" in line for line in server.requests)


def test_an_entity_that_is_not_ones_own(server, folder, capsys):
    _expect_line(folder, capsys, "no right to write there", "entity strangers", "--entity", "strangers")


def _expect_line(folder, capsys, said, place, *more):
    from trainoff.command_line import main

    start = time.monotonic()
    status = main(["publish", str(folder), "--project", "p", *more])
    assert time.monotonic() - start < 5.5
    lines = capsys.readouterr().err.strip().splitlines()
    assert status == 2
    assert len(lines) == 1, lines
    assert said in lines[0]
    assert place in lines[0]
    assert KEY not in lines[0]
    assert not (folder / "wandb.jsonl").exists()


@pytest.mark.slow
def test_ctrl_c_in_the_middle_and_the_same_command_again(server, tmp_path):
    import os
    import signal

    made = many(60)
    folder = run_folder(tmp_path / "run", made)
    command = [sys.executable, "-m", "trainoff", "publish", str(folder), "--project", "p"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=dict(os.environ))
    limit = time.monotonic() + 60
    while sum("file_stream" in line for line in list(server.requests)) < 10:
        assert time.monotonic() < limit
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in said
    time.sleep(0.5)
    count = len(server.requests)
    time.sleep(1.0)
    assert len(server.requests) == count, "nothing goes on behind one's back"
    assert 0 < publish(folder, "p").found < 60
    expect_whole(server, made)
