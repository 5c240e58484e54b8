"""What `search` means in a suite file, and the proposals of NSGA-II over such a space."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running_suites import make_data, place

from trainoff.benchmarks.nsga2 import Nsga2
from trainoff.benchmarks.search_space import Choice, Range, candidate_data, candidate_name, size_of, space_of
from trainoff.benchmarks.suite import parse_suite
from trainoff.errors import UserError


def suite_with(**arguments):
    module = {"name": "classifier", "net": {"name": "mlp", **arguments}}
    return make_data({"a": {"optimizer": "adamw"}}, module=module)


def test_a_space_is_what_is_marked():
    module = {
        "net": {
            "name": "cell_net",
            "cell": [{"search": ["identity", "conv1x1"]}, "none", {"search": ["none"]}],
            "width": {"search": {"min": 4, "max": 17, "step": 4}},
            "dropout": {"search": {"min": 0.0, "max": 0.5}},
            "cells": {"search": {"min": 1, "max": 64, "log": True}},
        }
    }
    assert space_of(module) == {
        ("net", "cell", 0): Choice(["identity", "conv1x1"]),
        ("net", "cell", 2): Choice(["none"]),
        ("net", "width"): Range(4, 17, 4, False, True),
        ("net", "dropout"): Range(0.0, 0.5, None, False, False),
        ("net", "cells"): Range(1, 64, None, True, True),
    }


@pytest.mark.parametrize(
    ("content", "size"),
    [
        ({"min": 4, "max": 17, "step": 4}, 4),  # 4, 8, 12, 16
        ({"min": 1, "max": 3}, 3),
        ({"min": 0.0, "max": 0.3, "step": 0.1}, 4),
        ({"min": 0.0, "max": 1.0}, None),
        ({"min": 0, "max": 1, "step": 0.5}, 3),
        ([None, [1], "x"], 3),
    ],
)
def test_a_space_has_as_many_candidates_as_values(content, size):
    one = space_of({"x": {"search": content}})
    assert size_of(one) == size
    two = space_of({"x": {"search": content}, "y": {"search": ["p", "q"]}})
    assert size_of(two) == (None if size is None else 2 * size)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "nothing to choose from"),
        ([[8], [8]], "a value stands twice"),
        ("relu", "neither a list of values nor"),
        ({"min": 1, "max": 3, "points": 3}, "a range has no 'points'"),
        ({"min": 1}, "'max' is None"),
        ({"min": True, "max": 3}, "'min' is True"),
        ({"min": 3, "max": 3}, "not below"),
        ({"min": 0, "max": 3, "log": True}, "begins above 0"),
        ({"min": 1, "max": 3, "log": "yes"}, "true or false"),
        ({"min": 1, "max": 9, "log": True, "step": 2}, "no step"),
        ({"min": 1, "max": 3, "step": 5}, "step 5"),
        ({"min": 1, "max": 3, "step": 0}, "step 0"),
    ],
)
def test_a_malformed_search_is_refused_with_its_place(content, message):
    with pytest.raises(UserError, match=message) as refused:
        parse_suite(suite_with(hidden={"search": content}), place)
    assert "tasks.t.module.net.hidden.search" in str(refused.value)


def test_a_search_elsewhere_is_refused():
    data = make_data({"a": {"optimizer": {"name": "adamw", "lr": {"search": [0.1, 0.2]}}}})
    with pytest.raises(UserError, match=r"recipes\.a\.optimizer\.lr: a search is over"):
        parse_suite(data, place)


@pytest.mark.parametrize("search", [{"cost": "megabytes"}, {"price": "flops"}, "flops"])
def test_an_unknown_cost_is_refused(search):
    with pytest.raises(UserError, match="search"):
        parse_suite(suite_with(hidden={"search": [[8], [16]]}) | {"search": search}, place)


@pytest.mark.parametrize("candidate", [{"of": "t"}, {"of": 3, "values": {}, "final": True}, "t", {"x": 1}])
def test_a_malformed_candidate_is_refused(candidate):
    data = suite_with()
    data["tasks"]["t"]["candidate"] = candidate
    with pytest.raises(UserError, match=r"tasks\.t\.candidate"):
        parse_suite(data, place)


def test_candidates_are_named_by_their_values_alone():
    values = {("net", "hidden"): [64], ("net", "activation"): "relu"}
    turned = dict(reversed(values.items()))
    assert candidate_name("t", values) == candidate_name("t", turned)
    assert candidate_name("t", values) != candidate_name("t", values | {("net", "hidden"): [65]})
    task = {"module": {"net": {"hidden": {"search": [[64]]}, "activation": {"search": ["relu"]}}}, "data": "digits"}
    made = candidate_data(task, "t", values, True)
    assert made["module"] == {"net": {"hidden": [64], "activation": "relu"}}
    assert made["candidate"] == {"of": "t", "values": {"net.hidden": [64], "net.activation": "relu"}, "final": True}


def test_optuna_is_imported_where_a_search_begins_and_no_sooner():
    program = (
        "import sys; import trainoff.benchmarks.search, trainoff.benchmarks.suite; assert 'optuna' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_optuna_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install trainoff\[search\]"):
        Nsga2({("x",): Choice([1, 2])}, 4, 0)


# --- NSGA-II ----------------------------------------------------------------------------------------------------


def non_dominated(objectives):
    """By the definition, pair by pair: the points that no other one dominates."""

    def dominates(one, other):
        return one[0] >= other[0] and one[1] <= other[1] and one != other

    return {point for point, o in objectives.items() if not any(dominates(p, o) for p in objectives.values())}


def key(values):
    return tuple(values.values())


SPACE = {("a",): Choice(list("uvwxyz")), ("b",): Range(1, 6, None, False, True)}


@settings(max_examples=15, deadline=None)
@given(
    table=st.lists(
        st.one_of(st.none(), st.tuples(st.integers(0, 8).map(float), st.integers(1, 9).map(float))),
        min_size=36,
        max_size=36,
    ),
    seed=st.integers(0, 3),
    generations=st.integers(1, 6),
)
def test_the_front_is_that_of_all_that_was_told(table, seed, generations):
    """Against the definition, on a table of objectives with ties, equal points and failures."""
    search = Nsga2(SPACE, 6, seed)
    known = {}
    for _ in range(generations):
        for proposal in [search.propose() for _ in range(6)]:
            letter, number = key(proposal.values)
            objectives = table["uvwxyz".index(letter) * 6 + number - 1]
            search.tell(proposal, objectives)
            if objectives is not None:
                known[letter, number] = objectives
    front = [key(values) for values in search.front()]
    assert set(front) == non_dominated(known)
    assert [known[point][1] for point in front] == sorted(known[point][1] for point in front)


def test_with_enough_proposals_the_front_is_the_true_one():
    def objectives(letter, number):  # more is better, and costs more; one letter is better than the others
        quality = number + 3.0 * (letter == "w") - 0.1 * "uvwxyz".index(letter)
        return quality, number**2 + 0.5 * "uvwxyz".index(letter)

    true = non_dominated({(a, b): objectives(a, b) for a in "uvwxyz" for b in range(1, 7)})
    search = Nsga2(SPACE, 8, 0)
    for _ in range(40):
        for proposal in [search.propose() for _ in range(8)]:
            search.tell(proposal, objectives(*key(proposal.values)))
    assert {key(values) for values in search.front()} == true
    assert 4 < len(true) < 12


def test_generations_move_to_the_front():
    """The optimum has zeros in five of six coordinates: their sum is 2.5 by chance."""
    space = {(f"x{index}",): Range(0.0, 1.0, None, False, False) for index in range(6)}
    search = Nsga2(space, 20, 0)
    means = []
    for _ in range(30):
        generation = [search.propose() for _ in range(20)]
        for proposal in generation:
            first, *others = proposal.values.values()
            search.tell(proposal, (first - sum(others), first + sum(others)))
        means.append(sum(sum(list(p.values.values())[1:]) for p in generation) / 20)
    assert means[0] > 2.0  # five numbers of mean 1/2
    assert means[-1] < 1.0


@pytest.mark.parametrize(
    ("domain", "holds"),
    [
        (Choice([[8], None, "x"]), lambda v: v in ([8], None, "x")),
        (Range(4, 17, 4, False, True), lambda v: type(v) is int and v in (4, 8, 12, 16)),
        (Range(1, 64, None, True, True), lambda v: type(v) is int and 1 <= v <= 64),
        (Range(1e-4, 1e-1, None, True, False), lambda v: type(v) is float and 1e-4 <= v <= 1e-1),
        (Range(0.0, 0.35, 0.1, False, False), lambda v: v in (0.0, 0.1, 0.2, 0.3)),
    ],
)
def test_values_are_of_their_range(domain, holds, recwarn):
    search = Nsga2({("x",): domain}, 4, 0)
    values = []
    for _ in range(10):
        for proposal in [search.propose() for _ in range(4)]:
            values.append(proposal.values[("x",)])
            search.tell(proposal, (float(proposal.number % 3), float(proposal.number % 5)))
    assert all(map(holds, values))
    assert len({repr(value) for value in values}) >= 3
    assert not recwarn.list


def test_equal_seeds_propose_equally_and_others_do_not():
    def proposals(seed):
        search, made = Nsga2(SPACE, 6, seed), []
        for _ in range(5):
            for proposal in [search.propose() for _ in range(6)]:
                made.append(key(proposal.values))
                search.tell(proposal, (float(proposal.values[("b",)]), float(proposal.number % 4)))
        return made

    assert proposals(1) == proposals(1)
    assert proposals(1) != proposals(2)
