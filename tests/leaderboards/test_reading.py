"""Run folders to a board."""

from __future__ import annotations

import json
import os

import pytest
from record_making import record, records_of, write_run

from trainoff.benchmarks.record import Failure, to_json
from trainoff.benchmarks.suite import parse_suite
from trainoff.benchmarks.suite_yaml import dump_yaml
from trainoff.errors import UserError
from trainoff.leaderboards import compare, read_board
from trainoff.leaderboards.asked import asked_by
from trainoff.leaderboards.reading import _read
from trainoff.leaderboards.render import render

SCORES = [0.9, 0.91, 0.92]


def test_unreadable_files_are_reported_and_left_alone(tmp_path):
    run = write_run(tmp_path / "run", records_of("a", SCORES))
    records = run / "records"
    whole = to_json(records_of("a", [0.5])[0])
    newer = json.loads(whole) | {"schema_version": 99}
    contents = {
        "truncated.json": whole[:200],
        "foreign.json": b'{"loss": 1}',
        "list.json": b"[1, 2]",
        "newer.json": json.dumps(newer).encode(),
        "binary.json": bytes(range(256)),
        "deep.json": b"[" * 100_000,
    }
    for name, content in contents.items():
        (records / name).write_bytes(content)
    (records / "folder.json").mkdir()
    os.mkfifo(records / "pipe.json")
    (records / ".temporary.json").write_bytes(whole[:10])
    (records / "notes.txt").write_text("not a record")
    board = read_board(run)
    assert board.rows[0].seeds_ok == 3
    problems = {problem.split(": ")[0].rsplit("/", 1)[1]: problem for problem in board.problems}
    assert set(problems) == {*contents, "folder.json", "pipe.json"}
    assert "newer trainoff" in problems["newer.json"]
    assert all("\n" not in problem for problem in problems.values())
    assert all((records / name).read_bytes() == content for name, content in contents.items())
    assert "truncated.json" in str(board)


def test_the_reason_of_a_failure_is_read_and_its_traceback_is_left(tmp_path):
    failed = records_of("a", [None, *SCORES])
    failed[0].error = Failure("ValueError", "no\nluck" + "x" * 100_000, "t" * 100_000)
    board = read_board(write_run(tmp_path / "run", failed))
    assert board.rows[0].failure_reasons == {"diverged": {"ValueError: no": 1}}
    assert _read(tmp_path / "run" / "records" / "00000.json").error == Failure("ValueError", "no")


def suite_file(folder, seeds=3, recipes=("a", "b")):
    task = {"module": "classifier", "data": "digits", "metric": "accuracy", "budget": {"epochs": 1}}
    suite = {"name": "a-suite", "tasks": {"digits": task}, "recipes": {name: {} for name in recipes}}
    suite |= {} if seeds is None else {"seeds": seeds}
    (folder / "suite.yaml").write_text(dump_yaml(suite))
    return suite


def test_an_interrupted_run_is_said_to_be_unfinished(tmp_path):
    run = write_run(tmp_path / "run", [record("a", 1, 0.9), record("a", 2, status="interrupted")])
    suite_file(run)
    board = read_board(run)
    assert board.unfinished == "Unfinished: 1 of 6 final trials have a record; none yet of b on digits."
    assert (board.rows[0].seeds_ok, board.rows[0].seeds_total) == (1, 3)
    for format in ("terminal", "markdown", "html", "latex"):
        assert "Unfinished: 1 of 6 final trials" in " ".join(render(board, format).split())


def test_what_has_all_its_trials_is_not_unfinished(tmp_path):
    halves = [
        write_run(tmp_path / "one", records_of("a", [0.9, None, 0.9])),
        write_run(tmp_path / "two", records_of("b", SCORES)),
    ]
    for half in halves:
        suite_file(half)
    assert read_board(halves).unfinished == ""
    assert "3 of 6" in read_board(halves[0]).unfinished
    assert "3 of 6" in compare(read_board([halves[0], write_run(tmp_path / "three", records_of("c", SCORES))]),
                               "a", "c").verdict()  # fmt: skip


@pytest.mark.parametrize("seeds", [None, 4, {"tune": 2}, {"final": 5}, {"tune": 3, "final": 2}])
def test_the_seeds_asked_for_are_those_of_the_suite(tmp_path, seeds):
    suite = suite_file(tmp_path, seeds)
    expected = frozenset(parse_suite(suite, lambda *path: ".".join(map(str, path))).final_seeds)
    assert asked_by(tmp_path) == {("a-suite", "digits", name): expected for name in ("a", "b")}


@pytest.mark.parametrize("content", ["name: [", "[]", "name: x\ntasks: {}\nrecipes: 3", "name: x"])
def test_a_damaged_suite_hides_no_record(tmp_path, content):
    run = write_run(tmp_path / "run", records_of("a", SCORES))
    (run / "suite.yaml").write_text(content)
    board = read_board(run)
    assert (board.rows[0].seeds_ok, board.unfinished) == (3, "")
    assert "suite.yaml" in board.problems[0]


def test_folders_merge_and_a_trial_counts_once(tmp_path):
    one = write_run(tmp_path / "one", records_of("a", SCORES))
    two = write_run(tmp_path / "two", [*records_of("a", SCORES), *records_of("b", SCORES)])
    board = read_board([one, str(two)])
    assert {row.recipe: (row.seeds_ok, row.seeds_total) for row in board.rows} == {"a": (3, 3), "b": (3, 3)}
    assert board.notes


@pytest.mark.parametrize("state", ["missing", "a file", "empty", "no records", "only foreign"])
def test_a_folder_without_records_is_one_line(tmp_path, state):
    folder = tmp_path / "run"
    if state == "a file":
        folder.write_text("")
    elif state != "missing":
        folder.mkdir()
    if state in ("no records", "only foreign"):
        (folder / "records").mkdir()
    if state == "only foreign":
        (folder / "records" / "x.json").write_text("{}")
    with pytest.raises(UserError) as caught:
        read_board([write_run(tmp_path / "good", records_of("a", SCORES)), folder])
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError):
        read_board([])
