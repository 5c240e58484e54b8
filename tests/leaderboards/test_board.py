"""Standings from records."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
import scipy.stats
from record_making import environment, record, records_of

from trainoff.benchmarks.record import Environment, Failure
from trainoff.errors import UserError
from trainoff.leaderboards import Board
from trainoff.leaderboards.render import render

STEADY = [0.90, 0.91, 0.905, 0.895, 0.9]
BETTER = [0.95, 0.96, 0.955, 0.945, 0.951]


def rows_of(*records):
    return {row.recipe: row for row in Board.from_records([each for many in records for each in many]).rows}


def test_the_best_mean_is_first_and_its_rival_is_tested():
    board = Board.from_records([*records_of("a", STEADY), *records_of("b", BETTER)])
    best, other = board.rows
    assert (best.recipe, best.rank, best.tied) == ("b", 1, False)
    assert (other.recipe, other.rank, other.tied) == ("a", 2, False)
    assert other.p_value == pytest.approx(scipy.stats.ttest_rel(STEADY, BETTER).pvalue)
    assert other.behind.mean == pytest.approx(0.0502)
    assert board.verdict().startswith("b is best on digits: test accuracy 0.9522 ± 0.0070 (5 seeds), ahead of a")


def test_less_is_better_where_the_mode_says_so():
    best, other = Board.from_records([*records_of("a", STEADY, mode="min"), *records_of("b", BETTER, mode="min")]).rows
    assert best.recipe == "a"
    assert other.behind.mean > 0


def test_survivors_do_not_win():
    rows = rows_of(records_of("steady", STEADY), records_of("fragile", [0.99, None, 0.99, None, 0.98]))
    assert rows["steady"].rank == 1
    fragile = rows["fragile"]
    assert (fragile.rank, fragile.seeds_ok, fragile.seeds_total) == (2, 3, 5)
    assert fragile.failures == {"diverged": 2}
    assert fragile.failed_share == 0.4
    assert (fragile.tied, fragile.p_value, fragile.pareto) == (None, None, None)
    board = Board.from_records([*records_of("steady", STEADY), *records_of("fragile", [0.99, None, 0.99, None, 0.98])])
    assert board.verdict().startswith("steady is best")
    assert any(
        "fragile: 2 of 5 seeds failed (2 diverged: the loss is not finite)" in note for note in board.tables[0].notes
    )


def test_fewer_failures_stand_above_more():
    rows = rows_of(records_of("a", [0.9, None, 0.9, 0.9]), records_of("b", [0.99, None, None, 0.99]))
    assert (rows["a"].rank, rows["b"].rank) == (1, 2)


def test_unfinished_recipes_stand_below_finished_ones():
    unfinished = [*records_of("early", BETTER[:3]), record("early", 4, status="interrupted")]
    rows = rows_of(records_of("done", STEADY), unfinished)
    early = rows["early"]
    assert (early.rank, early.seeds_ok, early.seeds_failed, early.seeds_missing) == (2, 3, 0, 2)


def test_a_recipe_without_any_score_has_a_row_and_no_rank():
    rows = rows_of(records_of("a", STEADY), records_of("dead", [None] * 5), [record("tuning", 0, stage="tune")])
    assert rows["dead"].rank is None
    assert rows["dead"].seeds_failed == 5
    assert (rows["tuning"].rank, rows["tuning"].seeds_missing) == (None, 5)
    assert "No recipe has a score" in Board.from_records(records_of("dead", [None] * 5)).verdict()


def test_a_crash_before_the_metric_is_known_counts():
    crashes = [record("b", seed, status="crashed", known=False, task_config={}) for seed in (1, 2)]
    finished = records_of("a", STEADY, task_config={})
    (table,) = Board.from_records([*crashes, *finished]).tables
    assert table.metric == "accuracy"
    assert {row.recipe: row.seeds_failed for row in table.rows} == {"a": 0, "b": 2}


def test_a_finished_trial_without_a_test_metric_is_a_failure():
    rows = rows_of([record("a", seed, test) for seed, test in enumerate([0.9, None, 0.9])])
    assert rows["a"].failures == {"no_score": 1}


def test_ties_are_marked_and_the_verdict_says_so():
    noisy = [0.96, 0.90, 0.99, 0.91, 0.98]
    board = Board.from_records([*records_of("a", BETTER), *records_of("b", noisy), *records_of("c", STEADY)])
    rows = {row.recipe: row for row in board.rows}
    assert (rows["a"].tied, rows["b"].tied, rows["c"].tied) == (True, True, False)
    assert "not separable from b (p = " in board.verdict()


def test_two_seeds_have_neither_interval_nor_test():
    board = Board.from_records([*records_of("a", [0.9, 0.91]), *records_of("b", [0.8, 0.81])])
    assert [(row.test.margin, row.tied, row.p_value) for row in board.rows] == [(None, None, None)] * 2
    assert board.verdict() == (
        "a has the best mean on digits: test accuracy 0.905 (2 seeds), on too few shared seeds for a test."
    )


def test_a_chosen_value_at_the_edge_of_its_grid_is_flagged():
    grid = [record("a", 0, stage="tune", tuned={"optimizer.lr": value}) for value in (0.01, 0.1, 1.0)]
    inside, edge = ([record("a", s, 0.9, tuned={"optimizer.lr": lr}) for s in (1, 2, 3)] for lr in (0.1, 1.0))
    assert rows_of(grid, inside)["a"].edges == ()
    row = rows_of(grid, edge)["a"]
    assert row.edges == ("optimizer.lr",)
    assert row.grids == {"optimizer.lr": (0.01, 0.1, 1.0)}
    assert row.tuning_trials == 3
    notes = Board.from_records([*grid, *edge]).tables[0].notes
    assert any("optimizer.lr = 1 is the largest of its grid (0.01, 0.1, 1)" in note for note in notes)


def crash(recipe, seed, message, **given):
    crashed = record(recipe, seed, status="crashed", **given)
    crashed.error = Failure("ValueError", message, "Traceback (most recent call last): ...")
    return crashed


def test_a_failure_is_shown_with_its_reason_and_its_record():
    reason = "I am the reason\nof it all"
    (table,) = Board.from_records([crash("sgd", seed, reason) for seed in (1, 2)]).tables
    assert table.notes[0] == (
        "sgd: 2 of 2 seeds failed (2 crashed: ValueError: I am the reason); it has no score. In full: "
        "records/digits-sgd-final-1.json and 1 more."
    )
    row = table.rows[0].to_dict()
    assert row["failure_reasons"] == {"crashed": {"ValueError: I am the reason": 2}}
    assert row["failed_trials"] == ["digits-sgd-final-1", "digits-sgd-final-2"]
    assert any("--rerun failed" in note for note in Board.from_records([crash("sgd", 1, reason)]).notes)
    assert Board.from_records(records_of("a", STEADY)).notes == ()


def test_of_several_reasons_the_most_frequent_one_is_shown_and_none_is_long():
    crashes = [crash("a", seed, message) for seed, message in enumerate(["x", "y" * 9000, "y" * 9000])]
    board = Board.from_records([*crashes, *records_of("b", STEADY)])
    note = next(note for note in board.tables[0].notes if note.startswith("a: 3 of"))
    assert "(3 crashed, such as ValueError: yyy" in note
    assert "yyy…)" in note
    assert len(note) < 400
    assert all(len(reason) <= 120 for reason in board.rows[-1].failure_reasons["crashed"])


def test_values_that_tuning_lost_are_said():
    rates = (0.01, 0.1, 1.0)
    tuning = [record("a", 0, stage="tune", tuned={"optimizer.lr": lr}) for lr in rates[:2]]
    tuning.append(crash("a", 0, "too fast", stage="tune", tuned={"optimizer.lr": 1.0}))
    (table,) = Board.from_records([*tuning, *records_of("a", STEADY, tuned={"optimizer.lr": 0.1})]).tables
    row = table.rows[0]
    assert (row.tuning_settings, row.lost_settings, row.edges) == (3, ({"optimizer.lr": 1.0},), ())
    assert row.to_dict()["tuning_failures"] == {"crashed": 1}
    assert (
        "a: 1 of 3 tuning trials failed (1 crashed: ValueError: too fast); no tuning result for lr=1; the choice is "
        "among 2 of 3 settings; in full: records/digits-a-[('optimizer.lr', 1.0)]-tune-0.json."
    ) in table.notes


def test_where_all_tuning_trials_failed_nothing_is_chosen_and_no_edge_is_claimed():
    rates = (0.1, 0.2)
    tuning = [crash("a", 0, "no", stage="tune", tuned={"optimizer.lr": lr}) for lr in rates]
    board = Board.from_records([*tuning, *records_of("a", STEADY, tuned={"optimizer.lr": 0.1})])
    row = board.rows[0]
    assert (row.edges, row.is_chosen) == ((), False)
    (note,) = [note for note in board.tables[0].notes if "tuning" in note]
    assert "no setting has a tuning result, so nothing is chosen; lr=0.1, the first of its grid, went on" in note
    assert "lr=0.1?" in render(board, width=400)
    assert "2, 2 failed" in render(board, width=400)


def test_the_only_value_with_a_result_is_no_edge():
    tuning = [record("a", 0, stage="tune", tuned={"optimizer.lr": 0.1})]
    tuning += [crash("a", 0, "no", stage="tune", tuned={"optimizer.lr": lr}) for lr in (0.2, 0.3)]
    assert rows_of(tuning, records_of("a", STEADY, tuned={"optimizer.lr": 0.1}))["a"].edges == ()


def test_texts_and_flags_have_no_edge():
    tuned = [{"name": name, "on": on} for name in ("x", "y") for on in (True, False)]
    grid = [record("a", 0, stage="tune", tuned=each) for each in tuned]
    assert rows_of(grid, [record("a", 1, 0.9, tuned=tuned[0])])["a"].edges == ()


def test_times_of_different_conditions_are_not_ranked_together():
    fast = records_of("fast", STEADY, seconds=0.1, place=environment(hardware="a GPU", device="cuda"))
    slow = [*records_of("slow", BETTER, seconds=9.0), *records_of("quick", STEADY, seconds=2.0)]
    board = Board.from_records([*fast, *slow])
    marks = {row.recipe: row.pareto for row in board.rows}
    assert marks == {"fast": None, "slow": True, "quick": True}
    assert any("different conditions" in note for note in board.tables[0].notes)


@pytest.mark.parametrize("change", [{"trials_beside": 0}, {"engine": "vmap"}, {"threads": 4}, {"hardware": "other"}])
def test_what_keeps_times_apart(change):
    rows = rows_of(
        records_of("a", STEADY, seconds=1.0), records_of("b", STEADY, seconds=2.0, place=environment(**change))
    )
    assert {row.pareto for row in rows.values()} == {None}


def test_rows_without_a_time_or_of_unknown_conditions_take_no_part():
    stacked = records_of("stacked", BETTER, seconds=None)
    unknown = records_of("unknown", BETTER, seconds=1.0)
    for each in unknown:
        each.environment = None
    rows = rows_of(stacked, unknown, records_of("a", STEADY, seconds=2.0), records_of("b", STEADY, seconds=3.0))
    assert {name: row.pareto for name, row in rows.items()} == {
        "stacked": None,
        "unknown": None,
        "a": True,
        "b": False,
    }


def test_times_of_one_recipe_under_two_conditions_are_not_mixed():
    records = records_of("a", STEADY, seconds=1.0)
    alone: Environment = environment(trials_beside=0)
    for each in records[:2]:
        each.environment, each.cost.train_seconds = alone, 0.1
    row = rows_of(records)["a"]
    assert (row.train_seconds, row.timed_seeds, row.seeds_ok) == (1.0, 3, 5)


def test_time_to_target_counts_those_that_never_reached_it():
    records = records_of("a", [0.9, 0.9, 0.9, None, None], reached=1.0)
    assert (rows_of(records)["a"].seconds_to_target, rows_of(records)["a"].target_reached) == (1.0, 3)
    records[0].cost.seconds_to_target = None
    assert (rows_of(records)["a"].seconds_to_target, rows_of(records)["a"].target_reached) == (None, 2)


def test_the_same_trial_counts_once_and_an_interrupted_one_gives_way():
    first = records_of("a", STEADY)
    board = Board.from_records([*first, *records_of("a", [0.1] * 5)])
    assert board.rows[0].test.mean == pytest.approx(sum(STEADY) / 5)
    assert board.notes == ("5 records of a trial that was there already; each trial counts once.",)
    again = Board.from_records([record("a", 1, status="interrupted"), record("a", 1, 0.9)])
    assert (again.rows[0].seeds_ok, again.rows[0].seeds_total) == (1, 1)


def test_settings_of_one_name_are_not_averaged():
    low = [record("a", seed, 0.5, tuned={"optimizer.lr": 0.1}) for seed in (1, 2, 3)]
    high = [record("a", seed, 0.9, tuned={"optimizer.lr": 1.0}) for seed in (1, 2, 3)]
    assert [row.recipe for row in Board.from_records([*low, *high]).rows] == [
        "a [optimizer.lr=1]",
        "a [optimizer.lr=0.1]",
    ]


def test_tasks_of_one_name_and_other_data_stay_apart():
    board = Board.from_records(
        [*records_of("a", STEADY, data_digest="1"), *records_of("b", BETTER, data_digest="2", identity="")]
    )
    assert [table.task for table in board.tables] == ["digits [1]", "digits [2]"]
    assert "2 tasks are called digits" in board.notes[0]


def test_test_numbers_decide_rank_and_nothing_else():
    grid = [record("a", 0, stage="tune", tuned={"optimizer.lr": value}) for value in (0.01, 0.1, 1.0)]
    final = [record("a", seed, 0.9, tuned={"optimizer.lr": 0.1}) for seed in (1, 2, 3)]
    before = Board.from_records([*grid, *final]).rows[0]
    for each in grid:
        each.quality.best.test.metric = each.quality.last.test.metric = random.Random(0).random()
    for each in final:
        each.quality.best.test.metric = 0.1
    after = Board.from_records([*grid, *final]).rows[0]
    assert after.test.mean == pytest.approx(0.1)
    same = ("tuned", "edges", "best_epoch", "val", "train_seconds", "onset_epoch", "seeds_ok", "seconds_to_target")
    assert all(getattr(before, name) == getattr(after, name) for name in same)


def test_an_unknown_task_names_the_near_ones():
    with pytest.raises(UserError, match="did you mean digits"):
        Board.from_records(records_of("a", STEADY)).table("digit")


def test_several_tasks_in_one_sentence():
    board = Board.from_records([each for task in "xyz" for r, s in (("a", STEADY), ("b", BETTER))
                                for each in records_of(r, s, task=task)])  # fmt: skip
    assert board.verdict() == (
        "b is best or not separable from the best on 3 of 3 tasks (clearly best on 3); the next recipe on 0."
    )


def test_a_board_is_read_without_heavy_packages():
    code = (
        "import sys, trainoff.leaderboards.board, trainoff.leaderboards.reading;"
        "import trainoff.leaderboards.render.html_page, trainoff.leaderboards.render.terminal;"
        "heavy = {'torch', 'lightning', 'pandas', 'scipy.stats', 'scipy.special', 'sklearn'} & set(sys.modules);"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pandas_gets_the_rows():
    frame = Board.from_records([*records_of("a", STEADY), *records_of("b", BETTER)]).to_pandas()
    assert list(frame["recipe"]) == ["b", "a"]
    assert frame["test_margin"].iloc[0] == pytest.approx(0.0070, abs=1e-4)
