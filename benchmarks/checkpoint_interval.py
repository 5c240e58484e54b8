"""How often a trial keeps a checkpoint, as a suite says it, and where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainoff.benchmarks.suite_values import check_number, check_whole, mapping
from trainoff.benchmarks.tuning import Where
from trainoff.errors import UserError

_KEY = "checkpoint_every"
_MOST_EPOCHS = 1_000_000


@dataclass(frozen=True)
class CheckpointInterval:
    """By one of these; the default is long enough that a trial of minutes keeps none.

    Args:
        epochs: At the end of every so many.
        minutes: When so many have gone by.
    """

    epochs: int | None = None
    minutes: float | None = None


@dataclass(frozen=True)
class CheckpointPlace:
    """Where a trial keeps its checkpoint, and how often.

    Args:
        path: The one file; removed when the trial's record is written.
        every: How often.
    """

    path: Path
    every: CheckpointInterval


DEFAULT_INTERVAL = CheckpointInterval(minutes=10)


def read_interval(value: Any, where: Where) -> CheckpointInterval | None:
    """A suite's ``checkpoint_every``: ``{minutes: 10}``, ``{epochs: 1}``, or false for none.

    Raises:
        UserError: For anything else.
    """
    if value is None:
        return DEFAULT_INTERVAL
    if value is False:
        return None
    given = mapping(value, (_KEY,), where, ("epochs", "minutes"), some=True)
    if len(given) > 1:
        raise UserError("epochs or minutes, not both", where(_KEY))
    if "epochs" in given:
        check_whole(given["epochs"], (_KEY, "epochs"), where, _MOST_EPOCHS)
    else:
        check_number(given["minutes"], (_KEY, "minutes"), where, above=0)
    return CheckpointInterval(**given)
