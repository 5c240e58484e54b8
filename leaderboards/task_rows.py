"""Tasks that stand as rows of one table: the candidates of an architecture search, and those of one ``row_of``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from trainoff.benchmarks.record import Record
from trainoff.leaderboards.candidates import is_candidate


def as_rows(records: Iterable[Record]) -> list[Record]:
    """The records as a board sorts them: those of a task that is a row as of the table's task and the row's recipe.

    A row bears its task's name, and its recipe's beside it where there are several. What such tasks differ in, their
    module, no longer parts them; other data, another metric or budget does.
    """
    found = list(records)
    recipes: dict[tuple[str, str], set[str]] = {}
    for record in found:
        if table := _table_of(record):
            recipes.setdefault((record.trial.suite, table), set()).add(record.trial.recipe)
    return [_as_row(record, recipes) for record in found]


def _as_row(record: Record, recipes: dict[tuple[str, str], set[str]]) -> Record:
    table = _table_of(record)
    if not table:
        return record
    trial = record.trial
    alone = is_candidate(record) or len(recipes[trial.suite, table]) == 1
    name = trial.task if alone else f"{trial.task}: {trial.recipe}"
    config: dict[str, Any] = {key: value for key, value in trial.task_config.items() if key != "module"}
    row = msgspec.structs.replace(trial, task=table, recipe=name, task_config=config)
    return msgspec.structs.replace(record, trial=row)


def _table_of(record: Record) -> str:
    table = record.trial.task_config.get("candidate_of") or record.trial.task_config.get("row_of")
    return table if isinstance(table, str) else ""
