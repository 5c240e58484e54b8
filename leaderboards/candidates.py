"""What a board makes of an architecture search: the candidates, which are tasks, as the rows of one table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainoff.benchmarks.record import Record
from trainoff.leaderboards.numbers import count_text, metric_text
from trainoff.leaderboards.standing import Standing
from trainoff.leaderboards.tuning_results import tuned_text

# What a search may hold the validation metric against: the field of a record's cost, and its name in a sentence.
COSTS = {
    "parameters": ("parameters", "parameters"),
    "flops": ("flops_per_sample", "operations of a training step for one sample"),
    "latency": ("latency_seconds", "seconds of a forward pass for one sample"),
}
DEFAULT_COST = "parameters"
_MOST_NAMED = 12


def is_candidate(record: Record) -> bool:
    """Whether a search made the record's task."""
    return isinstance(record.trial.task_config.get("candidate_of"), str)


@dataclass(frozen=True)
class Objectives:
    """What a search knew of a candidate.

    Args:
        cost: The name of the cost.
        score: Mean validation metric over the tuning seeds, of the best setting; ``None`` where a trial failed.
        value: Median cost of these trials.
        tuned: The values of that setting.
    """

    cost: str
    score: float | None
    value: float | None
    tuned: Mapping[str, Any]


def objectives_of(tuning: Sequence[Record], cost: str, mode: str) -> Objectives:
    """From a candidate's tuning trials to its place in the search.

    Args:
        tuning: At least one.
        cost: One of :data:`COSTS`.
        mode: ``max`` where more of the metric is better.
    """
    by_setting: dict[str, list[Record]] = {}
    for record in tuning:
        by_setting.setdefault(repr(record.trial.setting), []).append(record)
    scored = [(score, records) for records in by_setting.values() if (score := _score(records)) is not None]
    if not scored:
        return Objectives(cost, None, None, tuning[0].trial.tuned)
    score, records = (max if mode == "max" else min)(scored, key=lambda pair: pair[0])
    field = COSTS.get(cost, COSTS[DEFAULT_COST])[0]
    values = [value for record in records if (value := getattr(record.cost, field)) is not None]
    return Objectives(cost, score, float(statistics.median(values)) if values else None, records[0].trial.tuned)


def _score(records: Sequence[Record]) -> float | None:
    scores = [
        record.quality.best.val.metric if record.status == "ok" and record.quality is not None else None
        for record in records
    ]
    known = [score for score in scores if score is not None and math.isfinite(score)]
    return statistics.fmean(known) if len(known) == len(scores) else None


def search_note(rows: Sequence[Standing]) -> list[str]:
    """How many candidates are on the front of what, in a sentence; none for the rows of a suite without a search."""
    searched = [row for row in rows if row.searched_cost]
    if not searched:
        return []
    costs = " and ".join(dict.fromkeys(COSTS.get(row.searched_cost, COSTS[DEFAULT_COST])[1] for row in searched))
    front = sum(bool(row.pareto) for row in searched)
    metric = metric_text(searched[0].metric)
    note = (
        f"An architecture search of {count_text(len(searched), 'candidate')}: {front} are on the front (◆) of "
        f"validation {metric} against {costs}, by the trials that the search saw. Test played no part in it; "
        "standings are of the candidates that were trained on the final seeds."
    )
    on_front = sorted((row for row in searched if row.pareto), key=lambda row: row.searched_value or 0.0)
    named = [f"◆ {row.recipe}: {tuned_text(row.tuned)}." for row in on_front[:_MOST_NAMED]]
    rest = len(on_front) - len(named)
    return [note, *named, *([f"◆ and {rest} more."] if rest else [])]
