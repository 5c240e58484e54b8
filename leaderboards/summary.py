"""From the records of a recipe on a task to its row."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from trainoff.benchmarks.record import Compression, Environment, Record, Splits
from trainoff.leaderboards.candidates import objectives_of
from trainoff.leaderboards.failures import UNSCORED, failures_of
from trainoff.leaderboards.standing import Standing
from trainoff.leaderboards.statistics import estimate
from trainoff.leaderboards.tuning_results import tuning_of

Get = Callable[[Record], float | None]


@dataclass(frozen=True)
class Group:
    """What one row is made of.

    Args:
        suite: Name of the suite.
        task: The task's label on the board.
        recipe: The recipe's label on the board.
        metric: Name of the metric.
        mode: ``max`` or ``min``.
        target: Validation metric to be reached.
        seeds: All seeds of the task.
        final: The recipe's final trials, one a seed.
        tuning: Its tuning trials.
        searched_cost: Where the recipe is a candidate of an architecture search, the cost of that search.
    """

    suite: str
    task: str
    recipe: str
    metric: str
    mode: str
    target: float | None
    seeds: Collection[int]
    final: Sequence[Record]
    tuning: Sequence[Record]
    searched_cost: str = ""


def summarise(group: Group) -> Standing:
    """One row, not yet ranked against the others."""
    scores: dict[int, float] = {}
    ok: list[Record] = []
    failed: list[tuple[str, Record]] = []
    for record in group.final:
        score = _finite(record.quality.best.test.metric) if record.quality is not None else None
        if record.status == "ok" and score is not None:
            scores[record.trial.seed] = score
            ok.append(record)
        elif record.status != "interrupted":
            failed.append((UNSCORED if record.status == "ok" else record.status, record))
    timing, timed = _timed(ok)
    tuned = dict(group.final[0].trial.tuned) if group.final else {}
    failures, tuning = failures_of(failed), tuning_of(group.tuning)
    searched = objectives_of(group.tuning, group.searched_cost, group.mode) if group.searched_cost else None
    if searched is not None and not tuned:
        tuned = dict(searched.tuned)
    return Standing(
        suite=group.suite,
        task=group.task,
        recipe=group.recipe,
        metric=group.metric,
        mode=group.mode,
        seeds_ok=len(ok),
        seeds_total=len(group.seeds),
        failures=failures.counts,
        failure_reasons=failures.reasons,
        failed_trials=failures.trials,
        test=estimate(scores.values()),
        test_last=estimate(_last(record).test.metric for record in ok),
        val=estimate(_best(record).val.metric for record in ok),
        train_last=estimate(_last(record).train.metric for record in ok),
        gap_metric=estimate(record.overfitting.gap_metric for record in ok),
        gap_loss=estimate(record.overfitting.gap_loss for record in ok),
        best_epoch=_median(ok, lambda record: record.quality.best_epoch if record.quality else None),
        last_epoch=_median(ok, lambda record: record.cost.epochs or None),
        onset_epoch=_median(ok, lambda record: record.overfitting.onset_epoch),
        val_loss_rise=estimate(record.overfitting.val_loss_rise for record in ok),
        target=group.target,
        target_reached=sum(_reached(record) for record in ok),
        seconds_to_target=_seconds_to_target(timed, len(failed)),
        train_seconds=_median(timed, lambda record: record.cost.train_seconds),
        samples_per_second=_median(timed, lambda record: record.cost.samples_per_second),
        devices=timed[0].environment.devices if timed and timed[0].environment is not None else 1,
        peak_memory_bytes=_median(timed, lambda record: record.cost.peak_memory_bytes),
        sparsity=_median(ok, lambda record: _compression(record).sparsity),
        bytes_on_disk=_median(ok, lambda record: _compression(record).bytes_on_disk),
        dense_bytes=_median(ok, lambda record: _compression(record).dense_bytes),
        latency_seconds=_median(timed, lambda record: _compression(record).latency_seconds),
        dense_latency_seconds=_median(timed, lambda record: _compression(record).dense_latency_seconds),
        metric_before=estimate(_compression(record).metric_before for record in ok),
        metric_after=estimate(_compression(record).metric_after for record in ok),
        timing=timing,
        timed_seeds=len(timed),
        tuned=tuned,
        edges=tuning.edges(tuned),
        grids=tuning.grids,
        tuning_trials=len(group.tuning),
        tuning_settings=tuning.settings,
        tuning_failures=tuning.failures.counts,
        tuning_failure_reasons=tuning.failures.reasons,
        tuning_failed_trials=tuning.failures.trials,
        lost_settings=tuning.lost,
        scores=scores,
        searched_cost=group.searched_cost,
        searched_val=searched.score if searched is not None else None,
        searched_value=searched.value if searched is not None else None,
    )


def timing_label(environment: Environment | None) -> str:
    """Names the conditions under which times may be compared: hardware, threads, engine, trials beside.

    Empty for an unknown environment, whose times are compared with none.
    """
    if environment is None:
        return ""
    count = f"{environment.devices} × " if environment.devices > 1 else ""
    threads = f"{environment.threads} thread" + ("s" if environment.threads != 1 else "")
    beside = "alone" if environment.trials_beside == 0 else f"{environment.trials_beside} trials beside"
    if environment.trials_beside == 1:
        beside = "1 trial beside"
    device = f" ({environment.device})" if environment.device else ""
    return f"{count}{environment.hardware or 'unknown hardware'}{device}, {threads}, {environment.engine}, {beside}"


def _timed(records: Sequence[Record]) -> tuple[str, list[Record]]:
    """The seeds that ran under the most frequent conditions: a median over several would be nobody's time."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(timing_label(record.environment), []).append(record)
    if not groups:
        return "", []
    label = min(groups, key=lambda label: (-len(groups[label]), label == "", label))
    return label, groups[label]


def _seconds_to_target(records: Sequence[Record], failed: int) -> float | None:
    times = [math.inf] * failed if records else []
    times += [
        math.inf if record.cost.seconds_to_target is None else record.cost.seconds_to_target for record in records
    ]
    return _finite(statistics.median(times)) if times else None


def _reached(record: Record) -> bool:
    cost = record.cost
    return any(value is not None for value in (cost.seconds_to_target, cost.steps_to_target, cost.epochs_to_target))


def _median(records: Sequence[Record], get: Get) -> float | None:
    values = [value for record in records if (value := _finite(get(record))) is not None]
    return float(statistics.median(values)) if values else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _best(record: Record) -> Splits:
    return record.quality.best if record.quality is not None else Splits()


def _last(record: Record) -> Splits:
    return record.quality.last if record.quality is not None else Splits()


def _compression(record: Record) -> Compression:
    return record.compression or Compression()
