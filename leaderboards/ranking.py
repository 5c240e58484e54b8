"""The order of a task's recipes, which of them are tied with the best, and the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trainoff.leaderboards.pareto import fronts
from trainoff.leaderboards.standing import Standing
from trainoff.leaderboards.statistics import SIGNIFICANCE, Estimate, holm, paired_test


def ranked(rows: Sequence[Standing]) -> tuple[Standing, ...]:
    """The rows in order, with rank, tie mark, test against the best, and Pareto mark.

    Recipes whose seeds all finished come first, by mean; then those with missing seeds, by mean; then those with
    failed seeds, by the share that failed and then by mean; then those without a score
    (candidates of a search by their validation metric). Each recipe of the best's tier is tested against the best by a
    paired t test over the seeds that both have, Holm-corrected; one that the test does not separate at 0.05 is tied.
    As the best is picked by the same numbers, its lead is seen at its luckiest: a small p value against it says
    less than one against a recipe named beforehand.
    """
    order = sorted(
        rows,
        key=lambda row: (row.tier, row.failed_share, -row.signed_score, -row.signed_searched_val, row.recipe),
    )
    order = [replace(row, rank=position if row.test else None) for position, row in enumerate(order, 1)]
    return tuple(_with_fronts(_with_tests(order)))


def _with_tests(rows: Sequence[Standing]) -> list[Standing]:
    if not rows or rows[0].test is None:
        return list(rows)
    best = rows[0]
    tests = [None if row is best else paired_test(row.scores, best.scores) for row in rows]
    # A recipe of a lower tier is not tested: its survivors may well be better, and that is no tie.
    p_values = holm(
        [test.p_value if test and row.tier == best.tier else None for row, test in zip(rows, tests, strict=True)]
    )
    tested: list[Standing] = []
    for row, test, p_value in zip(rows, tests, p_values, strict=True):
        tied = None if p_value is None else p_value >= SIGNIFICANCE
        behind = None if test is None else _positive_if_worse(test.difference, row.mode)
        tested.append(replace(row, behind=behind, p_value=p_value, tied=tied))
    marks = [row.tied for row in tested if row.tied is not None]
    tested[0] = replace(tested[0], tied=any(marks) if marks else None)
    return tested


def _positive_if_worse(difference: Estimate, mode: str) -> Estimate:
    return replace(difference, mean=-difference.mean) if mode == "max" else difference


def _with_fronts(rows: Sequence[Standing]) -> list[Standing]:
    points = [_searched_point(row) if row.searched_cost else _timed_point(row) for row in rows]
    return [replace(row, pareto=mark) for row, mark in zip(rows, fronts(points), strict=True)]


def _timed_point(row: Standing) -> tuple[str, float, float] | None:
    # A recipe with failed seeds takes no part (its mean is of the survivors), nor one of unknown conditions.
    if row.test is None or row.train_seconds is None or not row.timing or row.seeds_failed:
        return None
    return row.timing, row.signed_score, row.train_seconds


def _searched_point(row: Standing) -> tuple[str, float, float] | None:
    if row.searched_val is None or row.searched_value is None:
        return None
    return row.searched_cost, row.signed_searched_val, row.searched_value
