"""Two recipes, paired by task and seed."""

from __future__ import annotations

import json

import pytest
import scipy.stats
from record_making import environment, records_of

from trainoff.errors import UserError
from trainoff.leaderboards import Board, compare, render_comparison

FIRST = [0.95, 0.96, 0.955, 0.945]
SECOND = [0.90, 0.93, 0.91, 0.91]


def board_of(first, second, tasks="x", **given):
    return Board.from_records(
        [each for task in tasks for name, scores in (("a", first), ("b", second))
         for each in records_of(name, scores, task=task, **given)]
    )  # fmt: skip


def test_one_task():
    comparison = compare(board_of(FIRST, SECOND), "a", "b")
    (task,) = comparison.tasks
    assert task.better == "first"
    assert task.p_value == pytest.approx(scipy.stats.ttest_rel(FIRST, SECOND).pvalue)
    assert task.difference.mean == pytest.approx(0.04)
    assert task.seconds_ratio == 1
    assert comparison.verdict().startswith("a is better on x: a minus b in test accuracy is 0.040 ± 0.015 (4 pairs")


def test_less_is_better():
    assert compare(board_of(FIRST, SECOND, mode="min"), "a", "b").tasks[0].better == "second"


def test_a_recipe_that_fails_is_not_better_for_its_survivors():
    comparison = compare(board_of([*FIRST, None], [*SECOND, 0.9]), "a", "b")
    assert comparison.tasks[0].p_value < 0.05
    assert comparison.tasks[0].better is None
    assert "a failed on 1 of 5 seeds (1 diverged: the loss is not finite)" in comparison.verdict()


def test_tasks_are_tested_apart_and_averaged_over_tasks():
    comparison = compare(board_of(FIRST, SECOND, tasks="xyz"), "a", "b")
    assert [task.p_value for task in comparison.tasks] == pytest.approx(
        [3 * scipy.stats.ttest_rel(FIRST, SECOND).pvalue] * 3
    )
    assert (comparison.over_tasks.mean, comparison.over_tasks.count) == (pytest.approx(0.04), 3)


def test_times_of_other_conditions_have_no_ratio():
    records = [*records_of("a", FIRST), *records_of("b", SECOND, place=environment(trials_beside=0))]
    assert compare(Board.from_records(records), "a", "b").tasks[0].seconds_ratio is None


@pytest.mark.parametrize(("names", "message"), [(("a", "adam"), "no recipe"), (("a", "a"), "with itself")])
def test_mistakes_are_one_line(names, message):
    with pytest.raises(UserError, match=message):
        compare(board_of(FIRST, SECOND), *names)


def test_no_common_task():
    board = Board.from_records([*records_of("a", FIRST, task="x"), *records_of("b", SECOND, task="y")])
    with pytest.raises(UserError, match="no task in common"):
        compare(board, "a", "b")


def test_what_the_p_values_are_corrected_for_is_said():
    one, three = (compare(board_of(FIRST, SECOND, tasks=tasks), "a", "b") for tasks in ("x", "xyz"))
    assert "p: paired t test over shared seeds, of one task, so not corrected." in " ".join(str(one).split())
    assert "Holm-corrected for 3 tasks" in str(three)
    assert "A board corrects for the recipes of a task instead" in three.to_dict()["correction"]
    assert compare(board_of([0.9], [0.8]), "a", "b").correction() == ""


def test_what_could_not_be_read_is_said():
    board = Board.from_records([*records_of("a", FIRST), *records_of("b", SECOND)], ["/x/y.json: not JSON"])
    comparison = compare(board, "a", "b")
    assert "Not read: /x/y.json: not JSON" in str(comparison)
    assert comparison.to_dict()["problems"] == ["/x/y.json: not JSON"]


def test_a_loss_has_one_gap():
    text = str(compare(board_of(FIRST, SECOND, mode="min", metric="val/mse", loss_gap=0.02), "a", "b"))
    assert "gap mse" in text
    assert "gap loss" not in text
    assert "gap loss" in str(compare(board_of(FIRST, SECOND), "a", "b"))


def test_renderings():
    comparison = compare(board_of(FIRST, SECOND, tasks="xy"), "a", "b")
    assert json.loads(render_comparison(comparison, "json"))["tasks"][0]["better"] == "a"
    assert max(map(len, render_comparison(comparison, width=80).splitlines())) <= 80
    assert "difference 0.040 ± 0.015 (4 pairs" in str(comparison)
    with pytest.raises(UserError):
        render_comparison(comparison, "latex")
