"""One trial on several devices: each rank runs all of it in a process of its own, and one record comes of them."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Mapping
from typing import Any, cast

from trainoff.benchmarks.engines.trainer import Surroundings, train
from trainoff.benchmarks.environment import describe
from trainoff.benchmarks.executors.rank_processes import Rank, run_on_ranks
from trainoff.benchmarks.executors.worker_processes import UNSEEN
from trainoff.benchmarks.record import RANK_DIED, RANK_KILLED, Failure, Quality, Record, Status
from trainoff.benchmarks.trial import Trial
from trainoff.errors import UserError
from trainoff.registry import provide_classes

_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PRELOAD = ("trainoff.benchmarks.worker",)


def train_on_ranks(trial: Trial, surroundings: Surroundings, classes: Mapping[str, Any], ranks: int) -> Record:
    """Train one trial on several processes of this machine.

    Args:
        trial: What to train.
        surroundings: What goes into the record's environment.
        classes: Classes that cannot be imported there, by class path.
        ranks: How many processes.

    Returns:
        The record of rank 0; where a rank failed, that of the one that failed first, and its reason names it.

    Raises:
        UserError: For a mistake that the user can mend.
    """
    payload = (trial, surroundings, dict(classes))
    ended = run_on_ranks(_run_rank, payload, ranks, _PRELOAD, lambda record: record.status != "ok")
    failed = [rank for rank in ended if rank.ended_at is not None and not _is_well(rank)]
    if not failed:
        return _joined([cast(Record, rank.result) for rank in ended])
    # A death comes before the errors that it is to the others.
    first = min(failed, key=lambda rank: (rank.exitcode is None, rank.ended_at))
    if isinstance(first.error, UserError):
        raise first.error
    status, failure = _failure(first)
    record = next((rank.result for rank in (first, *ended) if rank.result is not None), None)
    if record is None:
        record = _nothing_measured(trial, surroundings, ranks)
    record.status, record.error = status, failure
    return record


def _run_rank(payload: tuple[Trial, Surroundings, dict[str, Any]]) -> Record:
    trial, surroundings, classes = payload
    provide_classes(classes)
    if os.environ["RANK"] != "0":
        surroundings = dataclasses.replace(surroundings, spool="")  # one process tells how it goes
    return train(trial, surroundings)


def _is_well(rank: Rank[Record]) -> bool:
    return rank.result is not None and rank.result.status == "ok"


def _joined(records: list[Record]) -> Record:
    """Rank 0's, with what each rank has measured of its own."""
    record = records[0]
    peaks = [each.cost.peak_memory_bytes for each in records]
    record.cost.peak_memory_bytes_by_rank = peaks
    record.cost.peak_memory_bytes = max((peak for peak in peaks if peak is not None), default=None)
    return record


def _nothing_measured(trial: Trial, surroundings: Surroundings, ranks: int) -> Record:
    return Record(
        trial=trial.facts(),
        status="crashed",
        quality=Quality(trial.task.metric, trial.task.mode),
        environment=describe(devices=ranks, git=surroundings.git, trials_beside=surroundings.trials_beside),
    )


def _failure(rank: Rank[Record]) -> tuple[Status, Failure]:
    name = f"rank {rank.number}"
    if rank.result is not None:
        error = cast(Failure, rank.result.error)
        return rank.result.status, Failure(error.type, f"{name}: {error.message}", error.traceback)
    if rank.error is not None:
        message = " ".join(str(rank.error).split())
        return "crashed", Failure(type(rank.error).__name__, f"{name}: {message}", rank.traceback)
    code = rank.exitcode or 0
    if rank.memory:
        return "out_of_memory", Failure(RANK_DIED, f"{name} was ended by SIGKILL: {rank.memory}")
    if code == UNSEEN:
        return "crashed", Failure(
            RANK_KILLED, f"{name} was ended from outside, with the fork server that it came from"
        )
    by = _signal_name(-code) if code < 0 else f"exit status {code}"
    kind = RANK_KILLED if -code in _FROM_OUTSIDE else RANK_DIED
    return "crashed", Failure(kind, f"{name} was ended by {by}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
