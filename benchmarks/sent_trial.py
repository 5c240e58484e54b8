"""A trial as it is sent to where it is trained, with what cannot be known there."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

from trainoff.benchmarks.checkpoint_interval import CheckpointPlace
from trainoff.benchmarks.record import Record
from trainoff.benchmarks.trial import Trial
from trainoff.modules.strategy_requirements import processes_of


@dataclass(frozen=True)
class SentTrial:
    """What a worker is given.

    Args:
        trial: What to train.
        trials_beside: How many others may run at the same time.
        git: State of the working directory that the run was started from.
        classes: Classes that cannot be imported there, by class path.
        checkpoint: Where it keeps its checkpoint, and how often; None for none.
        spool: File that takes the epochs' values while it trains; empty for none.
    """

    trial: Trial
    trials_beside: int
    git: str
    classes: dict[str, Any]
    checkpoint: CheckpointPlace | None = None
    spool: str = ""


def train(sent: SentTrial) -> Record:
    """Train it in this process, or in processes of its own."""
    # Imported in the worker, where the fork server has it already.
    from trainoff.benchmarks.worker import run_trial

    return run_trial(sent.trial, sent.trials_beside, sent.git, sent.classes, sent.checkpoint, sent.spool)


def train_on_a_node(cpus: int, sent: SentTrial) -> Record:
    """The same on a cluster, where the trials beside are those that this machine has room for."""
    room = (os.cpu_count() or 1) // cpus - processes_of(sent.trial.setting.get("strategy"))
    return train(replace(sent, trials_beside=max(min(sent.trials_beside, room), 0)))
