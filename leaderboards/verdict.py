"""The board in one sentence, with its confidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from trainoff.leaderboards.numbers import count_text, estimate_text, metric_text, p_text
from trainoff.leaderboards.standing import Standing

_TIERS = {1: "not all of its seeds have finished", 2: "no recipe finished every seed"}

_UNTESTED = "on too few shared seeds for a test"


def verdict_of(rows: Sequence[Standing]) -> str:
    """Which recipe is best on a task, by how much, and how sure that is.

    Args:
        rows: The task's rows, ranked.
    """
    if not rows:
        return "There are no recipes."
    best = rows[0]
    if best.test is None:
        if any(row.seeds_failed for row in rows):
            failed = sum(row.seeds_failed for row in rows)
            return f"No recipe has a score on {best.task}: {count_text(failed, 'final trial')} failed."
        return f"No recipe has a score on {best.task} yet."
    confidence = _confidence(best, rows[1:])
    leads = "has the best mean" if confidence == _UNTESTED else "is best"
    score = f"test {metric_text(best.metric)} {estimate_text(best.test)} ({_seeds(best)})"
    if len(rows) == 1:
        return f"{best.recipe} is alone on {best.task}: {score}."
    return f"{best.recipe} {leads} on {best.task}: {score}, {confidence}{_reservations(best, rows)}."


def _seeds(row: Standing) -> str:
    count = f"{row.seeds_ok} of {row.seeds_total}" if row.seeds_ok < row.seeds_total else f"{row.seeds_ok}"
    return f"{count} {'seed' if row.seeds_total == 1 else 'seeds'}"


def _confidence(best: Standing, others: Sequence[Standing]) -> str:
    tied = [row for row in others if row.tied]
    if tied:
        more = f" and {len(tied) - 1} more" if len(tied) > 1 else ""
        return f"not separable from {tied[0].recipe} ({p_text(tied[0].p_value)}){more}"
    rivals = [row for row in others if row.test is not None and row.tier == best.tier]
    if not rivals:
        return "with no other recipe that finished as many seeds to hold it against"
    if any(row.p_value is None for row in rivals):
        return _UNTESTED
    least_sure = max(rivals, key=lambda row: row.p_value or 0.0)
    return (
        f"ahead of {rivals[0].recipe} by {estimate_text(rivals[0].behind)} and separable from every recipe that "
        f"finished as many seeds (largest {p_text(least_sure.p_value)})"
    )


def _reservations(best: Standing, rows: Sequence[Standing]) -> str:
    parts = [f"{_TIERS[best.tier]}"] if best.tier in _TIERS else []
    failed = [row for row in rows if row.seeds_failed]
    if failed:
        parts.append(f"{count_text(len(failed), 'recipe')} with failed seeds")
    return f"; {', '.join(parts)}" if parts else ""


def verdict_over_tasks(tables: Sequence[Sequence[Standing]]) -> str:
    """Which recipe is best or tied with the best on the most tasks.

    Args:
        tables: Of each task its rows, ranked.
    """
    scored = [rows for rows in tables if rows and rows[0].test is not None]
    if not scored:
        return "No recipe has a score yet."
    leading = Counter(row.recipe for rows in scored for row in rows if row.rank == 1 or row.tied)
    alone = Counter(rows[0].recipe for rows in scored if rows[0].tied is False)
    most = max(leading.values())
    first = [name for name, count in leading.items() if count == most]
    tasks = count_text(len(scored), "task")
    named = ", ".join(first[:3]) + (f" and {len(first) - 3} more" if len(first) > 3 else "")
    if len(first) > 1:
        return f"{named} are each best or not separable from the best on {most} of {tasks}; no recipe on more."
    second = max((count for name, count in leading.items() if name != first[0]), default=0)
    return (
        f"{named} is best or not separable from the best on {most} of {tasks} (clearly best on {alone[first[0]]}); "
        f"the next recipe on {second}."
    )
