"""The Pareto front of quality against time, within rows whose times may be compared."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def non_dominated(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which points no other one dominates: none is at least as good in both and better in one.

    Args:
        points: (score, cost) of each; a higher score and a lower cost are better. Finite numbers.

    Returns:
        One mark a point, in the same order. Equal points do not dominate each other.
    """
    order = sorted(range(len(points)), key=lambda index: (points[index][1], -points[index][0]))
    marks = [False] * len(points)
    best_score: float | None = None
    best_cost = 0.0
    for index in order:
        score, cost = points[index]
        if best_score is None or score > best_score or (score == best_score and cost == best_cost):
            marks[index] = True
            best_score, best_cost = score, cost
    return marks


def fronts(rows: Sequence[tuple[Hashable, float, float] | None]) -> list[bool | None]:
    """Marks of :func:`non_dominated` within each group of rows; groups are never compared with each other.

    Args:
        rows: (group, score, cost) of each row, or ``None`` for a row that takes no part. Higher scores are better.

    Returns:
        ``None`` for a row without a part, and for one alone in its group: there is nothing to dominate it.
    """
    groups: dict[Hashable, list[int]] = {}
    for index, row in enumerate(rows):
        if row is not None:
            groups.setdefault(row[0], []).append(index)
    marks: list[bool | None] = [None] * len(rows)
    for members in groups.values():
        if len(members) < 2:
            continue
        points = [(row[1], row[2]) for index in members if (row := rows[index]) is not None]
        for index, mark in zip(members, non_dominated(points), strict=True):
            marks[index] = mark
    return marks
