"""What a reader has to know beside a table's numbers: ties, failures, edges of grids, unequal conditions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from trainoff.leaderboards.candidates import search_note
from trainoff.leaderboards.failures import failure_text
from trainoff.leaderboards.numbers import count_text, plain, setting_text
from trainoff.leaderboards.standing import Standing
from trainoff.leaderboards.statistics import LEAST_COUNT
from trainoff.leaderboards.tuning_results import tuned_text


def notes_of(rows: Sequence[Standing], several: Sequence[str] = (), doubled: int = 0) -> tuple[str, ...]:
    """The notes under a task's table, a sentence each.

    Args:
        rows: The task's rows, ranked.
        several: Names of recipes that stand in more than one row.
        doubled: Records left out because another one has the same recipe, setting and seed.
    """
    notes = [*search_note(rows), *_ties(rows), *_failures(rows), *_missing(rows), *_lost_settings(rows), *_edges(rows)]
    notes += [*_tuning(rows), *_times(rows)]
    if several:
        notes.append(
            f"{_list(several)}: the records hold several settings or sources under this name; each has its own row."
        )
    if doubled:
        notes.append(
            f"{count_text(doubled, 'record')} left out: another one has the same recipe, setting and seed, under "
            "another trial id; the first one read counts."
        )
    return tuple(notes)


def board_notes(tasks: Sequence[str], rows: Sequence[Standing], repeated: int) -> tuple[str, ...]:
    """The notes that concern all tasks.

    Args:
        tasks: The tables' labels.
        rows: Of all tables.
        repeated: Records whose trial id was there already.
    """
    notes = []
    if any(row.failures or row.tuning_failures for row in rows):
        notes.append("A failed trial's record has its whole traceback; `trainoff run SUITE --rerun failed` runs the "
                     "failed ones again.")  # fmt: skip
    if repeated:
        notes.append(f"{count_text(repeated, 'record')} of a trial that was there already; each trial counts once.")
    names = Counter(label.rsplit(" [", 1)[0] for label in tasks if label.endswith("]"))
    for name, count in names.items():
        notes.append(f"{count} tasks are called {name}, with other data, another configuration or another metric; "
                     "they are not compared with each other.")  # fmt: skip
    return tuple(notes)


def _ties(rows: Sequence[Standing]) -> list[str]:
    notes = []
    tests = sum(row.p_value is not None for row in rows)
    if tests:
        corrected = f"Holm-corrected for {tests} tests" if tests > 1 else "the only one on this task, so not corrected"
        notes.append(
            f"p: paired t test against the best over shared seeds, {corrected}; = not separable from it (p ≥ 0.05). "
            "Other places are in order of the mean and are not tested against each other. `trainoff compare` corrects "
            "for tasks instead, so its p may differ."
        )
    scored = [row for row in rows if row.test is not None]
    if scored and all(row.seeds_ok < LEAST_COUNT for row in scored):
        notes.append(f"Fewer than {LEAST_COUNT} seeds: no interval and no test, and the order may be chance.")
    return notes


def _failures(rows: Sequence[Standing]) -> list[str]:
    notes = []
    for row in rows:
        if not row.seeds_failed:
            continue
        ended = row.seeds_ok + row.seeds_failed
        fate = "it has no score" if row.test is None else (
            "its numbers are of those that finished, so it stands below recipes without a failure")  # fmt: skip
        notes.append(f"{row.recipe}: {row.seeds_failed} of {count_text(ended, 'seed')} failed "
                     f"({failure_text(row.failures, row.failure_reasons)}); {fate}. "
                     f"In full: {_record_of(row.failed_trials)}.")  # fmt: skip
    return notes


def _lost_settings(rows: Sequence[Standing]) -> list[str]:
    notes = []
    for row in rows:
        if not row.lost_settings:
            continue
        parts = []
        failed = sum(row.tuning_failures.values())
        if failed:
            reasons = failure_text(row.tuning_failures, row.tuning_failure_reasons)
            parts.append(f"{failed} of {count_text(row.tuning_trials, 'tuning trial')} failed ({reasons})")
        if row.is_chosen:
            left = row.tuning_settings - len(row.lost_settings)
            parts.append(f"no tuning result for {_list([tuned_text(tuned) for tuned in row.lost_settings], 6)}")
            parts.append(f"the choice is among {left} of {count_text(row.tuning_settings, 'setting')}")
        else:
            went_on = f"; {tuned_text(row.tuned)}, the first of its grid, went on" if row.tuned else ""
            parts.append(f"no setting has a tuning result, so nothing is chosen{went_on}")
        if failed:
            parts.append(f"in full: {_record_of(row.tuning_failed_trials)}")
        notes.append(f"{row.recipe}: {'; '.join(parts)}.")
    return notes


def _record_of(trials: Sequence[str]) -> str:
    return f"records/{trials[0]}.json" + (f" and {len(trials) - 1} more" if len(trials) > 1 else "")


def _missing(rows: Sequence[Standing]) -> list[str]:
    by_count: dict[tuple[int, int], list[str]] = {}
    for row in rows:
        if row.seeds_missing:
            by_count.setdefault((row.seeds_missing, row.seeds_total), []).append(row.recipe)
    return [
        f"{_list(names)}: {missing} of {count_text(total, 'seed')} not finished; unfinished recipes stand below those "
        "that have all seeds."
        for (missing, total), names in by_count.items()
    ]


def _edges(rows: Sequence[Standing]) -> list[str]:
    by_edge: dict[str, list[str]] = {}
    for row in rows:
        for key in row.edges:
            grid, value = row.grids[key], row.tuned[key]
            side = "largest" if value == max(v for v in grid if isinstance(v, (int, float))) else "least"
            tried = ", ".join(setting_text(v) for v in grid)
            text = f"{plain(key)} = {setting_text(value)} is the {side} of its grid ({tried})"
            by_edge.setdefault(text, []).append(row.recipe)
    return [f"! {_list(names)}: {text}; a better one may lie beyond." for text, names in by_edge.items()]


def _tuning(rows: Sequence[Standing]) -> list[str]:
    by_count: dict[int, list[str]] = {}
    for row in rows:
        if row.tuning_trials:
            by_count.setdefault(row.tuning_trials, []).append(row.recipe)
    if len(by_count) < 2:
        return []
    parts = [f"{count} for {_list(names)}" for count, names in sorted(by_count.items())]
    return [f"Tuning trials are not equal: {'; '.join(parts)}."]


def _times(rows: Sequence[Standing]) -> list[str]:
    notes = []
    groups = list(dict.fromkeys(row.timing for row in rows if row.train_seconds is not None))
    if len(groups) > 1:
        named = "; ".join(f"{_list([row.recipe for row in rows if row.timing == group and row.timed_seeds])}: "
                          f"{plain(group) or 'unknown'}" for group in groups)  # fmt: skip
        notes.append(f"Times come from different conditions and are not compared across them ({named}).")
    notes += [
        f"{row.recipe}: times and memory are of {row.timed_seeds} of its {count_text(row.seeds_ok, 'seed')}, which "
        f"ran under the same conditions ({plain(row.timing) or 'unknown'})."
        for row in rows
        if row.timed_seeds < row.seeds_ok
    ]
    return notes


def _list(names: Sequence[str], most: int = 12) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
