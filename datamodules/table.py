"""Your own table, from CSV or Parquet: columns become numbers by what the training split says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from trainoff.datamodules.facts.entry import DataModuleEntry
from trainoff.datamodules.facts.table_sets import TABLE
from trainoff.datamodules.in_memory import InMemoryDataModule
from trainoff.datamodules.splits import RawData, SplitPlan
from trainoff.datamodules.standardisation import Statistics
from trainoff.datamodules.table_columns import Encoder, check_range, encoder_of, is_numeric, is_text, missing
from trainoff.errors import UserError, closest

if TYPE_CHECKING:
    import pyarrow

_MOST_CLASSES = 50  # a column of whole numbers with more different values than these is a regression's target


class Table(InMemoryDataModule):
    """A table with a target column, from a file; inputs ``(features,)``, classes or one number.

    Types are those that pyarrow infers. Columns of numbers are standardised, and what is missing in them becomes the
    mean, with a second column that is 1 where it was; columns of text and of truth values become one column for each
    of their values (one-hot), a missing one being a value of its own where it occurs in training. Means, deviations
    and values are those of the training split; a value that it does not have is all zeros. Columns that are constant
    in training are left out. Rows without a target are left out. :attr:`notes` says what was done, line by line.

    Targets of text and truth values, and whole numbers of few different values, are classes, in sorted order; other
    numbers are a regression, standardised. ``class_names``, ``feature_names``, ``input_shape``, ``num_classes`` and
    ``target_statistics`` are there after :meth:`setup`.

    Args:
        path: A file that ends in ``.csv``, ``.tsv`` or ``.parquet``.
        target: The column to predict.
        task: ``classification`` or ``regression``, where it is not to be inferred.
        ignore: Columns to leave out, such as an identifier.
        most_values: The most different values of a column of text.
        split_seed: The seed of the split, which is stratified for classification.
        val_fraction: The share that validates.
        test_fraction: The share that tests.
        train_samples: Keep only so many training samples.
        batch_size: See :class:`InMemoryDataModule`.
        microbatches: Parts of each training batch.
        replacement: Draw training samples with replacement.

    Raises:
        UserError: Later, naming the file or the column: one that is missing, empty or corrupt, a target of one class,
            a column of dates or of too many values.
    """

    facts: ClassVar[DataModuleEntry] = TABLE

    def __init__(
        self,
        path: str,
        target: str,
        task: Literal["classification", "regression"] | None = None,
        ignore: Sequence[str] = (),
        most_values: int = 100,
        split_seed: int = 0,
        val_fraction: float = 0.2,
        test_fraction: float = 0.2,
        train_samples: int | None = None,
        batch_size: int | Literal["full"] = 128,
        microbatches: int = 1,
        replacement: bool = False,
    ) -> None:
        super().__init__(batch_size, microbatches, replacement)
        if task not in (None, "classification", "regression"):
            raise UserError(f"{task!r} is neither classification nor regression", "task")
        if isinstance(ignore, str):
            raise UserError(f"{ignore!r} is no list of columns; write [{ignore}]", "ignore")
        self.path, self.target, self.given_task, self.ignore = path, target, task, tuple(ignore)
        self.most_values = most_values
        self._plan = SplitPlan(split_seed, val_fraction, test_fraction, 0.0, train_samples)
        self.notes: list[str] = []
        self.class_names: tuple[str, ...] = ()
        self.feature_names: tuple[str, ...] = ()
        self.target_statistics: Statistics | None = None

    def load_splits(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        """The rows, split and encoded."""
        path = Path(self.path).expanduser()
        table = self._with_targets(read_table(path))
        answers = self._answers(table.column(self.target))
        columns = [name for name in table.column_names if name != self.target and name not in self.ignore]
        self._check_columns(table)
        rows = np.arange(table.num_rows)
        splits = self._plan.cut(RawData(rows, answers), self.num_classes)
        encoders = self._encoders(table, columns, splits.train.inputs)
        self.feature_names = tuple(name for encoder in encoders for name in encoder.names)
        self.input_shape, self.size_bytes = (len(self.feature_names),), path.stat().st_size
        self.output_size = self.num_classes or 1
        if not self.feature_names:
            raise UserError("no column is left to learn from", str(path))
        inputs = np.concatenate([encoder.encode(table.column(encoder.column)) for encoder in encoders], axis=1)
        if self.num_classes is None:
            self.target_statistics = Statistics.of(answers[splits.train.inputs], per_feature=True)
            answers = self.target_statistics.apply(answers[:, None])
        return {
            name: (torch.from_numpy(inputs[split.inputs]), torch.from_numpy(answers[split.inputs]))
            for name, split in splits._asdict().items()
        }

    def _with_targets(self, table: pyarrow.Table) -> pyarrow.Table:
        """The rows that have a target."""
        if self.target not in table.column_names:
            known = ", ".join(table.column_names[:20])
            near = closest(self.target, table.column_names)
            raise UserError(f"there is no column '{self.target}'{near}; there are {known}", f"{self.path}: target")
        absent = missing(table.column(self.target))
        if absent.any():
            self.notes.append(f"{int(absent.sum()):,} of {len(absent):,} rows have no {self.target} and are left out")
        kept = table.filter(~absent)
        if not kept.num_rows:
            raise UserError("holds no row with a target", str(self.path))
        return kept

    def _answers(self, column: Any) -> np.ndarray[Any, Any]:
        """The classes by their numbers, or the numbers themselves."""
        numeric = is_numeric(column)
        if not numeric and not is_text(column):
            raise UserError(f"'{self.target}' holds {column.type}, neither numbers nor text", f"{self.path}: target")
        if numeric:
            check_range(self.target, column, self.path)
        values = np.asarray(column.to_numpy())
        whole = numeric and np.array_equal(values, np.round(values.astype(np.float64)))
        distinct = np.unique(values if numeric else values.astype(str))
        few = not numeric or (whole and len(distinct) <= _MOST_CLASSES)
        self.task = self.given_task or ("classification" if few else "regression")
        if self.task == "regression":
            if not numeric:
                raise UserError(f"'{self.target}' holds {column.type}, no numbers; task: classification", "task")
            return values.astype(np.float64)
        if len(distinct) < 2:
            raise UserError(f"'{self.target}' has one value, {distinct[0]}; a class needs another", str(self.path))
        self.class_names = tuple(map(str, distinct))
        self.num_classes = len(distinct)
        return np.searchsorted(distinct, values if numeric else values.astype(str)).astype(np.int64)

    def _check_columns(self, table: pyarrow.Table) -> None:
        for name in self.ignore:
            if name not in table.column_names:
                raise UserError(f"there is no column '{name}'{closest(name, table.column_names)}", "ignore")

    def _encoders(self, table: pyarrow.Table, columns: Sequence[str], train: np.ndarray[Any, Any]) -> list[Encoder]:
        encoders = []
        for name in columns:
            encoder = encoder_of(name, table.column(name), train, self.most_values, str(self.path))
            absent = int(missing(table.column(name)).sum())
            if not encoder.names:
                self.notes.append(f"{name} has one value in training and is left out")
            elif absent:
                self.notes.append(f"{name} is missing in {absent:,} of {table.num_rows:,} rows: {encoder.treatment}")
            encoders.append(encoder)
        return [encoder for encoder in encoders if encoder.names]


def read_table(path: Path) -> pyarrow.Table:
    """Read a file of comma- or tab-separated values, or a Parquet file.

    Raises:
        UserError: Naming the file that is missing, empty or corrupt, or of another kind.
    """
    try:
        import pyarrow
        import pyarrow.csv
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise UserError(f"tables need the package '{error.name}'; pip install pyarrow", "table") from error
    if path.suffix not in (".csv", ".tsv", ".parquet"):
        raise UserError("ends in none of .csv, .tsv and .parquet", str(path))
    try:
        if path.suffix == ".parquet":
            table = pyarrow.parquet.read_table(path)
        else:
            options = pyarrow.csv.ParseOptions(delimiter="\t" if path.suffix == ".tsv" else ",")
            strings = pyarrow.csv.ConvertOptions(strings_can_be_null=True)
            table = pyarrow.csv.read_csv(path, parse_options=options, convert_options=strings)
    except (OSError, pyarrow.ArrowInvalid) as error:
        reason = " ".join(str(error).split())
        missing_file = isinstance(error, FileNotFoundError)
        raise UserError(
            "there is no such file" if missing_file else f"cannot be read ({reason})", str(path)
        ) from error
    if not table.num_rows:
        raise UserError("holds no rows", str(path))
    twice = [name for name in table.column_names if table.column_names.count(name) > 1]
    if twice:
        raise UserError(f"has {twice.count(twice[0])} columns named '{twice[0]}'; give each its own name", str(path))
    return table
