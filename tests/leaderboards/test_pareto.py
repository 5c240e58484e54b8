"""The front against brute force."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trainoff.leaderboards.pareto import fronts, non_dominated

POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=25)


@given(POINTS)
def test_brute_force_agrees(points):
    def is_dominated(point):
        return any(o[0] >= point[0] and o[1] <= point[1] and o != point for o in points)

    assert non_dominated(points) == [not is_dominated(point) for point in points]


@given(st.lists(st.one_of(st.none(), st.tuples(st.sampled_from("ab"), st.integers(0, 4), st.integers(0, 4)))))
def test_groups_are_apart(rows):
    found = fronts(rows)
    for group in "ab":
        members = [index for index, row in enumerate(rows) if row is not None and row[0] == group]
        expected = non_dominated([rows[index][1:] for index in members]) if len(members) > 1 else [None] * len(members)
        assert [found[index] for index in members] == expected
    assert all(mark is None for row, mark in zip(rows, found, strict=True) if row is None)
