"""Recipes compared on one's own classes from a plain script, without `if __name__ == "__main__"`."""

from __future__ import annotations

from own_project import MyDataModule
from own_project import MyModule as Base

import trainoff
from trainoff import Recipe


class MyModule(Base):
    """Defined in the script itself: workers get it by value."""


board = trainoff.compare_recipes(
    MyModule,
    MyDataModule,
    recipes=["sgd", "adamw-cosine", Recipe(optimizer={"name": "nadam", "lr": 0.01}, batch=64)],
    seeds=3,
    metric="acc",
    budget={"epochs": 3},
    module_arguments={"hidden": 32},
)
print(board)
print(board.verdict())
