"""Which trials failed, how and why, in few words: whole tracebacks stay in the records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from trainoff.benchmarks.record import Failure, Record
from trainoff.leaderboards.numbers import plain

# An `ok` trial whose metric is null (not finite) has nothing to average: it counts as failed, under this name.
UNSCORED = "no_score"
_STATUS_WORDS = {UNSCORED: "without a finite metric"}
_LONGEST_REASON = 120


@dataclass(frozen=True)
class Failures:
    """The failed ones among some trials.

    Args:
        counts: How many, by status.
        reasons: Of each status, how many gave which reason; the most frequent one first.
        trials: Their ids.
    """

    counts: Mapping[str, int]
    reasons: Mapping[str, Mapping[str, int]]
    trials: tuple[str, ...]


def failures_of(failed: Iterable[tuple[str, Record]]) -> Failures:
    """Count failed trials.

    Args:
        failed: Of each its status, which for an ``ok`` trial without a metric is :data:`UNSCORED`, and its record.
    """
    reasons: dict[str, Counter[str]] = {}
    trials = []
    for status, record in failed:
        reasons.setdefault(status, Counter())[_reason(status, record.error)] += 1
        trials.append(plain(record.trial.id))
    ordered = sorted(reasons.items())
    return Failures(
        {status: counter.total() for status, counter in ordered},
        {status: {reason: n for reason, n in counter.most_common() if reason} for status, counter in ordered},
        tuple(trials),
    )


def shortened(error: Failure) -> Failure:
    """The error without its traceback, and with no more of its message than a board shows.

    A message may be megabytes long, and a board holds thousands of records.
    """
    lines = error.message.strip().splitlines()
    most = _LONGEST_REASON + 1  # one more than is shown, so that a cut is seen
    return Failure(error.type[:most], lines[0][:most] if lines else "")


def _reason(status: str, error: Failure | None) -> str:
    """``ValueError: no such file``; the type is left out where the status says as much."""
    if error is None:
        return ""
    short = shortened(error)
    says_as_much = short.type.lower() == status.replace("_", "")
    text = plain(": ".join(part for part in ("" if says_as_much else short.type, short.message) if part))
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 1]}…"


def failure_text(counts: Mapping[str, int], reasons: Mapping[str, Mapping[str, int]] | None = None) -> str:
    """``2 diverged, 1 timed out``; with reasons ``2 crashed: ValueError: no such file``.

    Args:
        counts: By status.
        reasons: Of each status; of several the most frequent one is shown.
    """
    parts = []
    for status, count in counts.items():
        text = f"{count} {_STATUS_WORDS.get(status, status.replace('_', ' '))}"
        given = list((reasons or {}).get(status, ()))
        if given:
            text += f", such as {given[0]}" if len(given) > 1 else f": {given[0]}"
        parts.append(text)
    return ("; " if reasons and any(reasons.values()) else ", ").join(parts)
