"""The record of a trial whose worker could not write one."""

from __future__ import annotations

from trainoff.benchmarks.environment import describe
from trainoff.benchmarks.executors.outcome import Outcome, Raised, TimedOut, WorkerDied
from trainoff.benchmarks.record import RANK_KILLED, Failure, Quality, Record, Status
from trainoff.benchmarks.trial import Trial

# A worker killed from outside says nothing about the recipe: its trial is tried once more.
_FROM_OUTSIDE = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")


def died_from_outside(outcome: Outcome[Record]) -> bool:
    """Whether the worker, or a rank's process, was ended by something that has nothing to do with its trial."""
    if outcome.result is not None:
        return outcome.result.error is not None and outcome.result.error.type == RANK_KILLED
    death = outcome.failure
    if not isinstance(death, WorkerDied) or death.memory:
        return False
    return death.exitcode is None or death.signal in _FROM_OUTSIDE


def failed_record(trial: Trial, outcome: Outcome[Record], git: str, trials_beside: int) -> Record:
    """What is known of a trial without a result.

    Args:
        trial: What was trained.
        outcome: With a failure.
        git: State of the working directory.
        trials_beside: How many others could run at the same time.
    """
    status, failure = _told(outcome)
    return Record(
        trial=trial.facts(),
        status=status,
        error=failure,
        quality=Quality(trial.task.metric, trial.task.mode),
        environment=describe(git=git, trials_beside=trials_beside),
    )


def _told(outcome: Outcome[Record]) -> tuple[Status, Failure]:
    failure = outcome.failure
    if isinstance(failure, TimedOut):
        return "timed_out", Failure("TimedOut", f"more than {failure.seconds:g} seconds")
    if isinstance(failure, Raised):
        kind, message = type(failure.exception).__name__, " ".join(str(failure.exception).split())
        return "crashed", Failure(kind, message, failure.traceback)
    assert isinstance(failure, WorkerDied)
    return _status_of(outcome, failure), Failure("WorkerDied", _end_of(failure))


def _status_of(outcome: Outcome[Record], death: WorkerDied) -> Status:
    if death.memory:
        return "out_of_memory"
    return "interrupted" if died_from_outside(outcome) else "crashed"


def _end_of(death: WorkerDied) -> str:
    if death.exitcode is None:
        return "the worker was ended from outside, with the fork server or the machine that it came from"
    by = death.signal or f"exit status {death.exitcode}"
    return f"the worker was ended by {by}" + (f": {death.memory}" if death.memory else "")
