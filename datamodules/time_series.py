"""Forecasting: windows of a series from a file, and the values that follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainoff.datamodules.facts.entry import DataModuleEntry
from trainoff.datamodules.facts.table_sets import TIME_SERIES
from trainoff.datamodules.in_memory import InMemoryDataModule
from trainoff.datamodules.standardisation import Statistics
from trainoff.datamodules.table import read_table
from trainoff.datamodules.table_columns import is_numeric, missing
from trainoff.datamodules.text import check_shares
from trainoff.errors import UserError, closest


class TimeSeries(InMemoryDataModule):
    """Columns of numbers in the order of time: from a window of all of them to the next values of one.

    Inputs are float32 ``(batch, columns, window)``, targets ``(batch, horizon)``: the target's values after a window.
    The rows are cut in their order: the first train, the next validate, the last test; no window reaches over a cut.
    Each column is standardised by its training rows; ``target_statistics`` keeps the target's mean and deviation.

    Args:
        path: A ``.csv``, ``.tsv`` or ``.parquet`` file, a row a moment.
        target: The column to forecast.
        columns: Those to forecast from, the target among them or not; all columns of numbers by default.
        window: Moments that are seen.
        horizon: Moments that are forecast.
        val_fraction: The share of the rows that validates.
        test_fraction: The share that tests.
        batch_size: See :class:`InMemoryDataModule`.
        microbatches: Parts of each training batch.
        replacement: Draw training samples with replacement.

    Raises:
        UserError: For a share, window or horizon out of range; later, naming the file or column, for one that is
            missing, holds no numbers or has gaps, and for parts that are shorter than a window and its horizon.
    """

    facts: ClassVar[DataModuleEntry] = TIME_SERIES

    def __init__(
        self,
        path: str,
        target: str,
        columns: Sequence[str] | None = None,
        window: int = 32,
        horizon: int = 1,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        batch_size: int | Literal["full"] = 128,
        microbatches: int = 1,
        replacement: bool = False,
    ) -> None:
        super().__init__(batch_size, microbatches, replacement)
        check_shares(val_fraction, test_fraction)
        for name, number in (("window", window), ("horizon", horizon)):
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise UserError(f"{number!r} is not a number of moments; it must be at least 1", name)
        self.path, self.target, self.columns = path, target, None if columns is None else tuple(columns)
        self.window, self.horizon, self.shares = window, horizon, (val_fraction, test_fraction)
        self.output_size = horizon
        self.feature_names: tuple[str, ...] = ()
        self.target_statistics: Statistics | None = None

    def load_splits(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        """The windows of each part."""
        path = Path(self.path).expanduser()
        table = read_table(path)
        names = self.columns or [name for name in table.column_names if is_numeric(table.column(name))]
        values = np.stack([self._column(table, name) for name in names], 1)
        answers = self._column(table, self.target)
        self.feature_names, self.input_shape = tuple(names), (len(names), self.window)
        self.size_bytes = path.stat().st_size
        val, test = (round(share * len(values)) for share in self.shares)
        first, second = len(values) - val - test, len(values) - test
        statistics = Statistics.of(values[:first], per_feature=True)
        self.target_statistics = Statistics.of(answers[:first], per_feature=True)
        inputs, targets = statistics.apply(values), self.target_statistics.apply(answers[:, None])[:, 0]
        cuts = {"train": (0, first), "val": (first, second), "test": (second, len(values))}
        return {name: self._windows(inputs[a:b], targets[a:b], name) for name, (a, b) in cuts.items()}

    def _windows(
        self, values: npt.NDArray[np.float32], answers: npt.NDArray[np.float32], split: str
    ) -> tuple[Tensor, Tensor]:
        count = len(values) - self.window - self.horizon + 1
        if count < 1:
            raise UserError(
                f"{len(values)} rows in {split} make no window of {self.window} and {self.horizon} after it", "window"
            )
        view = np.lib.stride_tricks.sliding_window_view
        inputs = view(values, self.window, axis=0)[:count]
        targets = view(answers[self.window :], self.horizon)[:count]
        return torch.from_numpy(inputs.copy()), torch.from_numpy(targets.copy())

    def _column(self, table: Any, name: str) -> npt.NDArray[np.float64]:
        if name not in table.column_names:
            near = closest(name, table.column_names)
            raise UserError(f"there is no column '{name}'{near}; there are {', '.join(table.column_names)}", self.path)
        column = table.column(name)
        if not is_numeric(column):
            raise UserError(f"the column '{name}' holds {column.type}, no numbers", self.path)
        if (gaps := missing(column)).any():
            raise UserError(f"the column '{name}' has no value in row {int(gaps.argmax()) + 1:,}; fill it", self.path)
        return np.asarray(column.to_numpy(), np.float64)
