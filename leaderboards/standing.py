"""One row of a board: what the trials of a recipe on a task amount to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainoff.leaderboards.statistics import Estimate


@dataclass(frozen=True)
class Standing:
    """A recipe on a task. Means are over the seeds that finished; how many did not stands beside them.

    Args:
        suite: Name of the suite.
        task: Name of the task.
        recipe: Name of the recipe; with its setting added where a name has several on this task.
        metric: Name of the task's metric.
        mode: ``max`` where more is better, else ``min``.
        seeds_ok: Final trials that finished with a test metric.
        seeds_total: Seeds that the task's recipes are compared on: all those of any recipe's final trials.
        failures: Failed final trials by status. An ``interrupted`` one is missing, not failed: it will run again.
        failure_reasons: Of each of those statuses, how many trials gave which reason (the error in one short line).
        failed_trials: Ids of the failed final trials: ``records/<id>.json`` has the whole traceback.
        test: Test metric at the epoch of the best validation metric: the headline.
        test_last: Test metric at the last epoch.
        val: Validation metric at its best epoch.
        train_last: Train metric (eval mode, fixed subset) at the last epoch.
        gap_metric: Generalisation gap in the metric at the last epoch; positive where train looks better than test.
        gap_loss: The same in the loss (test minus train).
        best_epoch: Median epoch of the best validation metric, from 1.
        last_epoch: Median number of epochs trained.
        onset_epoch: Median epoch of the least validation loss, from 1: overfitting begins after it.
        val_loss_rise: Rise of the validation loss from there to the last epoch.
        target: Validation metric to be reached.
        target_reached: Seeds that reached it.
        seconds_to_target: Median over the seeds in ``timing`` and the failed ones, one that never reached it
            counting as infinite; ``None`` where the median is.
        train_seconds: Median seconds of training.
        samples_per_second: Median.
        devices: How many each trial was trained on.
        speed_up: ``samples_per_second`` by that of the same setting on one device, timed under the same conditions;
            ``None`` on one device, and where there is no such row.
        peak_memory_bytes: Median; of several devices that of the largest.
        sparsity: Median share of zeros among the weights that can be pruned; ``None`` where the recipe prunes nothing.
        bytes_on_disk: Median bytes of the module's state with the zeros left out.
        dense_bytes: The same with the zeros.
        latency_seconds: Median seconds of one sample's forward pass.
        dense_latency_seconds: The same without quantisation.
        metric_before: Validation metric just before the first pruning.
        metric_after: That of the pruned state.
        timing: Where the seeds ran that the times and the memory are of; empty where unknown.
        timed_seeds: How many those are: where a recipe's seeds ran in several environments, the most frequent one.
        tuned: Values that tuning chose, by dotted key.
        edges: Keys of ``tuned`` whose value is the least or the largest of its grid, and was chosen among several.
        grids: Values tried, by dotted key, where tuning trials say.
        tuning_trials: How many tuning trials the recipe had.
        tuning_settings: How many settings those tried.
        tuning_failures: Failed tuning trials by status.
        tuning_failure_reasons: As ``failure_reasons``.
        tuning_failed_trials: As ``failed_trials``.
        lost_settings: Of the settings tried, those that could not be chosen: a tuning trial of theirs failed, or has
            not ended.
        scores: Test metric (headline) by seed.
        rank: Position on the task, from 1; ``None`` without any score.
        tied: Not separable from the task's best (for the best: some other is tied); ``None`` where not tested.
        behind: How far behind the best, over shared seeds; positive means worse.
        p_value: Of the paired t test against the best, Holm-corrected over the recipes of the best's tier; ``None``
            for recipes of a lower tier and under three shared seeds.
        pareto: On the front of test metric against training seconds; ``None`` where it takes no part. For a candidate
            of an architecture search: on the front of ``searched_val`` against ``searched_value``.
        searched_cost: Cost of the architecture search that the row is a candidate of; empty where it is none.
        searched_val: Validation metric in the search's own trials: mean over the tuning seeds.
        searched_value: Median cost in the same trials.
    """

    suite: str
    task: str
    recipe: str
    metric: str
    mode: str
    seeds_ok: int
    seeds_total: int
    failures: Mapping[str, int]
    failure_reasons: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    failed_trials: tuple[str, ...] = ()
    test: Estimate | None = None
    test_last: Estimate | None = None
    val: Estimate | None = None
    train_last: Estimate | None = None
    gap_metric: Estimate | None = None
    gap_loss: Estimate | None = None
    best_epoch: float | None = None
    last_epoch: float | None = None
    onset_epoch: float | None = None
    val_loss_rise: Estimate | None = None
    target: float | None = None
    target_reached: int = 0
    seconds_to_target: float | None = None
    train_seconds: float | None = None
    samples_per_second: float | None = None
    devices: int = 1
    speed_up: float | None = None
    peak_memory_bytes: float | None = None
    sparsity: float | None = None
    bytes_on_disk: float | None = None
    dense_bytes: float | None = None
    latency_seconds: float | None = None
    dense_latency_seconds: float | None = None
    metric_before: Estimate | None = None
    metric_after: Estimate | None = None
    timing: str = ""
    timed_seeds: int = 0
    tuned: Mapping[str, Any] = field(default_factory=dict)
    edges: tuple[str, ...] = ()
    grids: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    tuning_trials: int = 0
    tuning_settings: int = 0
    tuning_failures: Mapping[str, int] = field(default_factory=dict)
    tuning_failure_reasons: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    tuning_failed_trials: tuple[str, ...] = ()
    lost_settings: tuple[Mapping[str, Any], ...] = ()
    scores: Mapping[int, float] = field(default_factory=dict, repr=False)
    rank: int | None = None
    tied: bool | None = None
    behind: Estimate | None = None
    p_value: float | None = None
    pareto: bool | None = None
    searched_cost: str = ""
    searched_val: float | None = None
    searched_value: float | None = None

    @property
    def signed_searched_val(self) -> float:
        """``searched_val`` with the sign that makes more better; -inf without one."""
        if self.searched_val is None:
            return -math.inf
        return self.searched_val if self.mode == "max" else -self.searched_val

    @property
    def efficiency(self) -> float | None:
        """``speed_up`` by ``devices``."""
        return None if self.speed_up is None else self.speed_up / self.devices

    @property
    def seeds_failed(self) -> int:
        """Final trials that failed."""
        return sum(self.failures.values())

    @property
    def seeds_missing(self) -> int:
        """Seeds of the task that this recipe has no finished trial of, failed or not."""
        return self.seeds_total - self.seeds_ok - self.seeds_failed

    @property
    def gap_is_of_loss(self) -> bool:
        """Whether both gaps are the same numbers, as where the metric is the loss itself."""
        metric, loss = self.gap_metric, self.gap_loss
        if metric is None or loss is None:
            return metric is loss
        pairs = ((metric.mean, loss.mean), (metric.margin or 0.0, loss.margin or 0.0))
        return self.mode == "min" and all(math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9) for one, other in pairs)

    @property
    def is_chosen(self) -> bool:
        """Whether a tuning result chose the values: where each setting failed, the first one went on."""
        return self.tuning_settings > len(self.lost_settings)

    @property
    def failed_share(self) -> float:
        """Failed trials among those that ended."""
        ended = self.seeds_ok + self.seeds_failed
        return self.seeds_failed / ended if ended else 0.0

    @property
    def tier(self) -> int:
        """0: all seeds finished; 1: some missing, none failed; 2: some failed; 3: no score at all.

        Recipes are ranked within a tier, and tiers below each other: a mean over the seeds that survived is no
        match for a mean over all of them.
        """
        return 3 if self.test is None else 2 if self.seeds_failed else 1 if self.seeds_missing else 0

    @property
    def signed_score(self) -> float:
        """The headline mean with the sign that makes more better; -inf without one."""
        if self.test is None:
            return -math.inf
        return self.test.mean if self.mode == "max" else -self.test.mean

    def to_dict(self) -> dict[str, Any]:
        """The row as flat plain data: an estimate ``test`` becomes ``test``, ``test_margin`` and ``test_seeds``."""
        row: dict[str, Any] = {}
        for key in _ORDER:
            value = getattr(self, key)
            if key in _ESTIMATES:
                row[key] = None if value is None else value.mean
                row[f"{key}_margin"] = None if value is None else value.margin
                row[f"{key}_seeds"] = 0 if value is None else value.count
            elif isinstance(value, Mapping):
                row[key] = {str(name): list(item) if isinstance(item, tuple) else item for name, item in value.items()}
            else:
                row[key] = list(value) if isinstance(value, tuple) else value
        return row


_ESTIMATES = frozenset(
    ("test", "test_last", "val", "train_last", "gap_metric", "gap_loss", "val_loss_rise", "behind",
     "metric_before", "metric_after")
)  # fmt: skip
_ORDER = (
    "suite", "task", "rank", "tied", "recipe", "metric", "mode", "test", "behind", "p_value",
    "seeds_ok", "seeds_total", "seeds_failed", "seeds_missing", "failures",
    "failure_reasons", "failed_trials",
    "val", "test_last", "train_last", "gap_metric", "gap_loss",
    "best_epoch", "last_epoch", "onset_epoch", "val_loss_rise",
    "target", "target_reached", "seconds_to_target", "train_seconds", "samples_per_second",
    "devices", "speed_up", "efficiency", "peak_memory_bytes",
    "sparsity", "bytes_on_disk", "dense_bytes", "latency_seconds", "dense_latency_seconds",
    "metric_before", "metric_after",
    "timing", "timed_seeds", "pareto", "searched_cost", "searched_val", "searched_value", "tuned", "edges", "grids",
    "tuning_trials",
    "tuning_settings", "tuning_failures", "tuning_failure_reasons", "tuning_failed_trials", "lost_settings", "scores",
)  # fmt: skip
