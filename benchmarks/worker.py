"""What runs in a worker process. The fork server imports this module, and with it all that trials need, once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sklearn.datasets  # noqa: F401 (half a second, and the first thing most shipped suites load)
import torchmetrics.classification  # noqa: F401

from trainoff.benchmarks.checkpoint_interval import CheckpointPlace
from trainoff.benchmarks.engines.ranks import train_on_ranks
from trainoff.benchmarks.engines.trainer import Surroundings, train
from trainoff.benchmarks.record import Record
from trainoff.benchmarks.trial import Trial
from trainoff.modules import classifier, regressor  # noqa: F401
from trainoff.modules.strategy_requirements import processes_of
from trainoff.registry import provide_classes


def run_trial(
    trial: Trial,
    trials_beside: int,
    git: str,
    classes: Mapping[str, Any],
    checkpoint: CheckpointPlace | None = None,
    spool: str = "",
) -> Record:
    """Train one trial, here or, where its recipe asks for several devices, on a process for each.

    Args:
        trial: What to train.
        trials_beside: How many others may run at the same time.
        git: State of the working directory.
        classes: Classes that cannot be imported here, by class path.
        checkpoint: Where it keeps its checkpoint, and how often; None for none.
        spool: File that takes the epochs' values while it trains; empty for none.

    Raises:
        UserError: For a mistake that the user can mend.
    """
    if checkpoint is not None and not checkpoint.path.parent.parent.is_dir():
        checkpoint = None  # another machine, which does not see the run folder
    if spool and not Path(spool).parent.is_dir():
        spool = ""  # likewise
    surroundings = Surroundings(trials_beside, git, checkpoint, spool)
    ranks = processes_of(trial.setting.get("strategy"))
    if ranks > 1:
        return train_on_ranks(trial, surroundings, classes, ranks)
    provide_classes(classes)
    return train(trial, surroundings)
