"""Several devices against one, on a board."""

from __future__ import annotations

import pytest
from record_making import environment, records_of

from trainoff.leaderboards import Board
from trainoff.leaderboards.render import render

SETTING = {"optimizer": {"name": "sgd"}, "batch": 64}
DDP = {**SETTING, "strategy": {"name": "ddp", "devices": 2}}


def run(recipe, throughput, setting, **place):
    made = records_of(recipe, [0.9, 0.91], setting=setting, place=environment(**{"trials_beside": 0, **place}))
    for record, factor in zip(made, (0.9, 1.1), strict=True):
        record.cost.samples_per_second = throughput * factor
    return made


def rows_of(*runs):
    return {row.recipe: row for row in Board.from_records([record for made in runs for record in made]).rows}


def test_throughput_by_that_of_the_same_setting_on_one_device():
    rows = rows_of(
        run("single", 1000.0, SETTING),
        run("other", 5000.0, {**SETTING, "batch": 32}),
        run("ddp", 1500.0, DDP, devices=2),
        run("four", 2000.0, {**DDP, "strategy": {"name": "ddp", "devices": 4}}, devices=4),
    )
    assert rows["ddp"].speed_up == pytest.approx(1.5)
    assert rows["ddp"].efficiency == pytest.approx(0.75)
    assert rows["four"].efficiency == pytest.approx(0.5)
    assert rows["single"].speed_up is None
    assert (rows["single"].devices, rows["ddp"].devices) == (1, 2)
    assert rows["ddp"].to_dict()["efficiency"] == pytest.approx(0.75)


@pytest.mark.parametrize("change", [{"trials_beside": 1}, {"hardware": "other"}, {"threads": 4}])
def test_none_under_other_conditions(change):
    assert (
        rows_of(run("single", 1000.0, SETTING, **change), run("ddp", 1500.0, DDP, devices=2))["ddp"].speed_up is None
    )


def test_none_without_the_same_setting():
    rows = rows_of(run("single", 1000.0, {**SETTING, "precision": "bf16-mixed"}), run("ddp", 1500.0, DDP, devices=2))
    assert rows["ddp"].speed_up is None


def test_the_column_is_there_where_a_row_has_one():
    single, ddp = run("single", 1000.0, SETTING), run("ddp", 1500.0, DDP, devices=2)
    assert "1.50 (75%)" in render(Board.from_records([*single, *ddp]), "markdown")
    assert "speed-up" not in render(Board.from_records(single), "markdown")
