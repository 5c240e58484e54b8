"""Running from Python on one's own classes."""

from __future__ import annotations

import numpy as np
from running_suites import records_of
from users_project import UsersData, UsersModule

from trainoff import Recipe, compare_recipes


def test_recipes_with_numpys_numbers_are_compared(tmp_path):
    """As a sweep over `np.logspace` gives them; what the records hold is Python's."""
    low, _, high = np.logspace(-3, -1, 3)
    board = compare_recipes(
        UsersModule,
        UsersData,
        [Recipe({"name": "sgd", "lr": high}, batch=np.int64(32)), {"optimizer": {"name": "adamw", "lr": low}}],
        seeds=1,
        metric="acc",
        budget={"epochs": 1},
        out=tmp_path,
        workers=1,
    )
    assert [row["seeds_ok"] for row in board.to_dicts()] == [1, 1]
    settings = {name: record.trial.setting for (name, *_), record in records_of(tmp_path).items()}
    assert settings["sgd-batch32"]["optimizer"] == {"name": "sgd", "lr": 0.1}
    assert settings["sgd-batch32"]["batch"] == 32
    assert settings["adamw"]["optimizer"] == {"name": "adamw", "lr": 0.001}
