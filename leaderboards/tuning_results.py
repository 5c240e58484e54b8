"""What a recipe's tuning trials tried, and which values they had a result for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainoff.benchmarks.record import Record
from trainoff.leaderboards.failures import UNSCORED, Failures, failures_of
from trainoff.leaderboards.numbers import plain, setting_text


@dataclass(frozen=True)
class Tuning:
    """A recipe's tuning trials.

    Args:
        grids: The values tried, by dotted key, in order of size where they are numbers.
        settings: How many settings were tried.
        lost: Those that could not be chosen: a trial of theirs failed, or has not ended.
        failures: The failed trials.
        left: As ``grids``, of the settings that could be chosen.
    """

    grids: Mapping[str, tuple[Any, ...]]
    settings: int
    lost: tuple[Mapping[str, Any], ...]
    failures: Failures
    left: Mapping[str, tuple[Any, ...]]

    def edges(self, tuned: Mapping[str, Any]) -> tuple[str, ...]:
        """The keys whose value is the least or the largest of its grid, and was chosen among several."""
        return tuple(
            key
            for key, value in tuned.items()
            if len(self.left.get(key, ())) > 1 and _is_edge(value, self.grids.get(key, ()))
        )


def tuning_of(records: Iterable[Record]) -> Tuning:
    """What the tuning trials of a recipe amount to. A setting has a result where each of its trials has one."""
    tried: dict[str, Mapping[str, Any]] = {}
    lost: dict[str, Mapping[str, Any]] = {}
    failed: list[tuple[str, Record]] = []
    for record in records:
        tuned, name = record.trial.tuned, repr(record.trial.tuned)
        tried.setdefault(name, tuned)
        if not _has_result(record):
            lost.setdefault(name, tuned)
            if record.status != "interrupted":
                failed.append((UNSCORED if record.status == "ok" else record.status, record))
    left = [tuned for name, tuned in tried.items() if name not in lost]
    grids = _grids(tried.values())
    ordered = sorted(lost.values(), key=lambda tuned: [grids[key].index(value) for key, value in tuned.items()])
    return Tuning(grids, len(tried), tuple(ordered), failures_of(failed), _grids(left))


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Of each dotted key its last part, or the whole key where that is not clear."""
    last = [key.rsplit(".", 1)[-1] for key in keys]
    return {key: plain(name if last.count(name) == 1 else key) for key, name in zip(keys, last, strict=True)}


def tuned_text(tuned: Mapping[str, Any]) -> str:
    """``lr=0.01, momentum=0.9``."""
    names = short_names(list(tuned))
    return ", ".join(f"{names[key]}={setting_text(value)}" for key, value in tuned.items())


def _has_result(record: Record) -> bool:
    value = record.quality.best.val.metric if record.status == "ok" and record.quality is not None else None
    return value is not None and math.isfinite(value)


def _grids(settings: Iterable[Mapping[str, Any]]) -> dict[str, tuple[Any, ...]]:
    grids: dict[str, dict[str, Any]] = {}
    for tuned in settings:
        for key, value in tuned.items():
            grids.setdefault(key, {})[repr(value)] = value
    return {
        key: tuple(sorted(values.values()) if all(map(_is_number, values.values())) else values.values())
        for key, values in grids.items()
    }


def _is_edge(value: Any, grid: Sequence[Any]) -> bool:
    numbers = [other for other in grid if _is_number(other)]
    return len(numbers) > 1 and _is_number(value) and value in (min(numbers), max(numbers))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
