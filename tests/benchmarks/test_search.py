"""Whole searches: what is tried, recorded and trained further, after whatever interruption."""

from __future__ import annotations

import copy
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from running_suites import make_data, numbers_of, place

from trainoff.benchmarks.record import to_json
from trainoff.benchmarks.runner import run_suite
from trainoff.benchmarks.search import MOST_FINALISTS, Plan, run_search
from trainoff.benchmarks.store import RunFolder
from trainoff.benchmarks.suite import load_suite, parse_suite
from trainoff.benchmarks.suite_yaml import dump_yaml, read_yaml
from trainoff.command_line import main
from trainoff.errors import UserError
from trainoff.leaderboards import read_board
from trainoff.leaderboards.render import render

NET = {
    "name": "mlp",
    "hidden": {"search": [[], [2], [4], [8], [4, 4]]},
    "activation": {"search": ["relu", "tanh"]},
    "norm": {"search": [None, "layer"]},
}
RECIPE = {"a": {"optimizer": {"name": "adamw", "lr": 0.03}, "batch": 64}}


def searched(net=None, recipes=None, **others):
    module = {"name": "classifier", "net": net or NET}
    return make_data(copy.deepcopy(recipes or RECIPE), seeds={"tune": 1, "final": 2}, module=module, **others)


def search(data, folder, trials=10, workers=2, **others):
    states = []
    run_search(parse_suite(data, place), folder, Plan(trials, population=4, **others), workers,
               watch=lambda progress: states.append(progress.done))  # fmt: skip
    return states[-1]


def records_in(folder):
    records, problems = RunFolder(folder).read_all()
    assert not problems
    return list(records.values())


def candidates_in(folder):
    return {task: content["candidate"] for task, content in read_yaml(folder / "suite.yaml").data["tasks"].items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A search of ten candidates that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    search(searched(), folder)
    return folder


def front_by_definition(records, cost=lambda record: record.cost.parameters):
    """Of the search's own trials: validation against cost, pair by pair."""
    points = {
        record.trial.task: (record.quality.best.val.metric, cost(record))
        for record in records
        if record.trial.stage == "tune" and record.status == "ok"
    }

    def dominates(one, other):
        return one[0] >= other[0] and one[1] <= other[1] and one != other

    return {name for name, point in points.items() if not any(dominates(o, point) for o in points.values())}


def test_each_candidate_is_tried_once_and_the_front_is_trained_further(whole):
    records = records_in(whole)
    tried = [record for record in records if record.trial.stage == "tune"]
    final = {(record.trial.task, record.trial.seed) for record in records if record.trial.stage == "final"}
    assert len(tried) == len({json.dumps(record.trial.tuned) for record in tried}) == 10
    assert {record.trial.seed for record in tried} == {0}
    front = front_by_definition(records)
    assert 1 < len(front) <= MOST_FINALISTS
    assert final == {(name, seed) for name in front for seed in (1, 2)}
    assert {name for name, candidate in candidates_in(whole).items() if candidate["final"]} == front


def test_records_say_which_values_a_candidate_has(whole):
    for record in records_in(whole):
        net = record.trial.task_config["module"]["net"]
        assert record.trial.tuned == {f"net.{name}": net[name] for name in ("hidden", "activation", "norm")}
        assert record.trial.task_config["candidate_of"] == "t"
        widths = [64, *net["hidden"], 10]
        affine = sum(a * b + b for a, b in itertools.pairwise(widths))
        assert record.cost.parameters == affine + (2 * sum(net["hidden"]) if net["norm"] else 0)


def test_the_search_is_the_same_whoever_finishes_first(whole, tmp_path):
    search(searched(), tmp_path / "one", workers=1)
    assert numbers_of(tmp_path / "one") == numbers_of(whole)
    assert (tmp_path / "one" / "suite.yaml").read_text() == (whole / "suite.yaml").read_text()


class Stop(Exception):
    """In place of whatever ends a run."""


@pytest.mark.parametrize("done", [1, 6, 12])
def test_an_interrupted_search_goes_on_to_what_an_uninterrupted_one_gives(done, whole, tmp_path):
    def watch(progress):
        if progress.done == done:
            raise Stop

    folder = tmp_path / "halted"
    with pytest.raises(Stop):
        run_search(parse_suite(searched(), place), folder, Plan(10, population=4), 2, watch=watch)
    kept = {path.name: path.stat().st_mtime_ns for path in (folder / "records").iterdir()}
    assert len(kept) == done
    assert search(searched(), folder) == len(records_in(whole)) - done
    assert {name: (folder / "records" / name).stat().st_mtime_ns for name in kept} == kept
    assert numbers_of(folder) == numbers_of(whole)
    assert (folder / "suite.yaml").read_text() == (whole / "suite.yaml").read_text()
    assert search(searched(), folder) == 0


def test_a_search_that_is_extended_is_the_longer_one(whole, tmp_path):
    search(searched(), tmp_path, trials=5)
    assert len(candidates_in(tmp_path)) == 5
    search(searched(), tmp_path)
    assert candidates_in(tmp_path) == candidates_in(whole)
    mine, theirs = numbers_of(tmp_path), numbers_of(whole)
    assert theirs.items() <= mine.items()  # of the shorter one's front some may have been trained further too
    search(searched(), tmp_path, trials=5)
    assert len(candidates_in(tmp_path)) == 5  # what is no longer asked for waits beside the records
    assert len(mine) == len(records_in(tmp_path)) + len(list((tmp_path / "set-aside").iterdir()))


def test_test_numbers_decide_nothing(whole, tmp_path):
    """With every test metric turned round, the search proposes and chooses the same."""
    (tmp_path / "records").mkdir()
    for record in records_in(whole):
        if record.trial.stage == "tune":
            record.quality.best.test.metric = 1 - record.quality.best.test.metric
            record.quality.last.test.metric = 0.0
            (tmp_path / "records" / f"{record.trial.id}.json").write_bytes(to_json(record))
    search(searched(), tmp_path)
    assert candidates_in(tmp_path) == candidates_in(whole)


def test_a_whole_space_is_tried_and_then_the_search_ends(tmp_path):
    net = {"name": "mlp", "hidden": {"search": [[], [2]]}, "activation": {"search": ["relu", "tanh"]}}
    notes = []
    progress = run_search(parse_suite(searched(net), place), tmp_path, Plan(50, population=4), 2,
                          watch=lambda progress: notes.extend(progress.notes))  # fmt: skip
    assert len(candidates_in(tmp_path)) == 4
    assert "4 candidates were tried, not 50: there are no others" in notes
    assert progress.total == progress.done == 4 + 2 * len(front_by_definition(records_in(tmp_path)))


def test_a_candidate_that_fails_is_recorded_and_off_the_front(tmp_path):
    data = searched()
    data["tasks"]["t"] = {
        "module": {
            "class_path": "running_suites.Failing",
            "init_args": {"how": {"search": ["raise", "nan", "segfault", "fine"]}, "step": {"search": [1, 2]}},
        },
        "data": {"class_path": "running_suites.UsersData"},
        "metric": "acc",
        "budget": {"epochs": 1},
    }
    search(data, tmp_path, trials=8)
    statuses = {}
    for record in records_in(tmp_path):
        if record.trial.stage == "tune":
            statuses.setdefault(record.trial.tuned["init_args.how"], set()).add(record.status)
    assert statuses == {"raise": {"crashed"}, "nan": {"diverged"}, "segfault": {"crashed"}, "fine": {"ok"}}
    final = {name for name, candidate in candidates_in(tmp_path).items() if candidate["final"]}
    assert final == front_by_definition(records_in(tmp_path))
    board = render(read_board(tmp_path))
    assert re.search(r"is best on t|is alone on t|has the best mean on t", board)
    assert "no such luck" in board


def test_a_candidate_that_cannot_be_built_is_a_result_and_a_wrong_suite_is_not(tmp_path):
    edge = {"search": ["none", "none ", "identity"]}
    net = {"name": "cell_net", "cell": [{"search": ["none", "conv1x1"]}], "width": {"search": [2, 3, 4]}, "stages": 1}
    search(searched(net), tmp_path / "some", trials=6)
    reasons = {
        record.trial.tuned["net.cell[0]"]: record.error and record.error.message
        for record in records_in(tmp_path / "some")
    }
    assert reasons["conv1x1"] is None
    assert "nothing leads from the input to the output" in reasons["none"]
    net = {"name": "mlp", "hidden": [4], "activation": {"search": ["rellu", "tanhh"]}}
    with pytest.raises(UserError, match="no activation is called"):
        search(searched(net), tmp_path / "none")
    assert not (tmp_path / "none").exists()
    assert edge


def test_a_tuned_recipe_is_tuned_for_each_candidate(tmp_path):
    recipes = {"a": {"optimizer": {"name": "adamw", "lr": {"tune": [1e-9, 0.03]}}, "batch": 64}}
    net = {"name": "mlp", "hidden": {"search": [[], [8]]}}
    search(searched(net, recipes), tmp_path, trials=2)
    records = records_in(tmp_path)
    assert len([record for record in records if record.trial.stage == "tune"]) == 4
    assert {r.trial.setting["optimizer"]["lr"] for r in records if r.trial.stage == "final"} == {0.03}
    (table,) = read_board(tmp_path).tables
    assert {row.searched_val for row in table.rows} == {
        max(r.quality.best.val.metric for r in records if r.trial.task == row.recipe and r.trial.stage == "tune")
        for row in table.rows
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": {}}, "one task; 'small' has 2"),
        ({"recipes": {}}, "one recipe; 'small' has 2"),
        ({"net": "mlp"}, "nothing is to be searched"),
    ],
)
def test_a_suite_that_is_no_search_is_refused(change, message, tmp_path):
    data = searched(change.get("net"))
    if "tasks" in change:
        data["tasks"]["u"] = data["tasks"]["t"]
    if "recipes" in change:
        data["recipes"]["b"] = data["recipes"]["a"]
    with pytest.raises(UserError, match=message):
        search(data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- the board and the command line -----------------------------------------------------------------------------


def test_the_board_marks_the_front_of_validation_against_cost(whole):
    (table,) = read_board(whole).tables
    records = records_in(whole)
    assert table.task == "t"
    assert len(table.rows) == 10
    assert {row.recipe for row in table.rows if row.pareto} == front_by_definition(records)
    by_task = {record.trial.task: record for record in records if record.trial.stage == "tune"}
    for row in table.rows:
        assert (row.searched_val, row.searched_value) == (
            by_task[row.recipe].quality.best.val.metric,
            by_task[row.recipe].cost.parameters,
        )
        assert row.tuned == by_task[row.recipe].trial.tuned
        assert (row.seeds_ok, row.seeds_total) == ((2, 2) if row.pareto else (0, 0))
    assert not read_board(whole).unfinished
    page = render(read_board(whole), "html")
    assert "Validation accuracy against parameters" in page
    assert "An architecture search of 10 candidates" in render(read_board(whole))


@pytest.mark.parametrize(("cost", "field"), [("flops", "flops_per_sample"), ("latency", "latency_seconds")])
def test_the_cost_is_the_one_asked_for(cost, field, tmp_path):
    search(searched(), tmp_path, trials=8, cost=cost)
    records = records_in(tmp_path)
    values = [getattr(record.cost, field) for record in records]
    assert all(value > 0 for value in values)
    assert len(set(values)) > 2
    front = front_by_definition(records, lambda record: getattr(record.cost, field))
    assert {row.recipe for row in read_board(tmp_path).rows if row.pareto} == front
    assert {name for name, candidate in candidates_in(tmp_path).items() if candidate["final"]} == front


def test_the_suite_that_is_kept_is_a_normal_one(whole):
    suite = load_suite(str(whole / "suite.yaml"))
    before = numbers_of(whole)
    assert run_suite(suite, whole).done == 0
    assert numbers_of(whole) == before
    assert parse_suite(read_yaml(whole / "suite.yaml").data, place).tasks == suite.tasks


def test_run_refuses_a_search(tmp_path, capsys):
    (tmp_path / "s.yaml").write_text(dump_yaml(searched()))
    for more in ([], ["--dry-run"]):
        assert main(["run", str(tmp_path / "s.yaml"), "--out", str(tmp_path / "run"), *more]) == 2
        said = capsys.readouterr().err
        assert "module.net.hidden: is to be searched: `trainoff search`" in said
        assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits", "--trials", "3"], "nothing is to be searched in 'digits'"),
        (["search-digits"], "--trials"),
        (["search-digits", "--trials", "0"], "0 is not a whole number"),
        (["search-digits", "--trials", "2", "--population", "1"], "--population: 1 is too few"),
        (["search-digits", "--trials", "2", "--cost", "memory"], "invalid choice: 'memory'"),
        (["search-digits", "--trials", "2", "--seed", "-1"], "--seed: -1 is too few"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["search", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_ctrl_c_keeps_the_records_and_the_next_search_goes_on(whole, tmp_path):
    (tmp_path / "s.yaml").write_text(dump_yaml(searched()))
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "trainoff", "search", str(tmp_path / "s.yaml"), "--trials", "10"]
    command += ["--population", "4", "--out", str(folder), "--workers", "1", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while len(list(folder.glob("records/*.json"))) < 2 and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "trainoff: interrupted; finished trials keep their records"
    assert 2 <= len(records_in(folder)) < len(records_in(whole))
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert len([row for row in json.loads(finished.stdout) if row["pareto"]]) == len(
        front_by_definition(records_in(whole))
    )
    assert numbers_of(folder).keys() == numbers_of(whole).keys()
    assert (folder / "board.html").is_file()
