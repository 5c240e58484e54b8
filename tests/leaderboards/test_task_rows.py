"""Tasks that stand as rows of one table."""

from __future__ import annotations

from typing import Any

from record_making import record

from trainoff.benchmarks.record import Record
from trainoff.leaderboards import Board

SCORES = {"lenet": 0.80, "resnet": 0.95, "vgg": 0.90}


def made(recipe: str = "adamw", **config: Any) -> list[Record]:
    """Three nets on one set, three seeds each."""
    return [
        record(
            recipe,
            seed,
            score + seed / 1000,
            task=net,
            identity=f"{net}-{recipe}-{seed}-{sorted(config)}",
            task_config={"module": {"net": net}, "row_of": "images", "metric": "accuracy", "mode": "max", **config},
        )
        for net, score in SCORES.items()
        for seed in (1, 2, 3)
    ]


def test_tasks_of_one_row_of_are_compared_in_one_table() -> None:
    board = Board.from_records(made())
    (table,) = board.tables
    assert table.task == "images"
    assert [row.recipe for row in table.rows] == ["resnet", "vgg", "lenet"]
    assert all(row.seeds_ok == row.seeds_total == 3 for row in table.rows)
    assert "resnet" in table.verdict()


def test_with_several_recipes_a_row_bears_both_names() -> None:
    board = Board.from_records([*made("adamw"), *made("sgd")])
    (table,) = board.tables
    assert sorted(row.recipe for row in table.rows) == sorted(
        f"{net}: {recipe}" for net in SCORES for recipe in ("adamw", "sgd")
    )


def test_tasks_on_other_data_or_with_another_budget_stay_apart() -> None:
    board = Board.from_records([*made(), *made(data={"name": "digits"})])
    assert len(board.tables) == 2


def test_tasks_without_it_have_tables_of_their_own() -> None:
    records = [record(task=net) for net in SCORES]
    assert [table.task for table in Board.from_records(records).tables] == sorted(SCORES)
