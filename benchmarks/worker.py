"""What runs in a worker process. The fork server imports this module, and with it all that trials need, once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sklearn.datasets  # noqa: F401 (half a second, and the first thing most shipped suites load)
import torchmetrics.classification  # noqa: F401

from trainoff.benchmarks.engines.trainer import Surroundings, train
from trainoff.benchmarks.record import Record
from trainoff.benchmarks.trial import Trial
from trainoff.modules import classifier, regressor  # noqa: F401
from trainoff.registry import provide_classes


def run_trial(trial: Trial, trials_beside: int, git: str, classes: Mapping[str, Any], spool: str = "") -> Record:
    """Train one trial.

    Args:
        trial: What to train.
        trials_beside: How many others may run at the same time.
        git: State of the working directory.
        classes: Classes that cannot be imported here, by class path.
        spool: File that takes the epochs' values while it trains; empty for none.

    Raises:
        UserError: For a mistake that the user can mend.
    """
    provide_classes(classes)
    return train(trial, Surroundings(trials_beside, git, spool))
