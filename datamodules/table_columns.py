"""The columns of a table as numbers: standardised, or one column a value; all by what the training rows say."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trainoff.datamodules.standardisation import Statistics
from trainoff.errors import UserError

Features = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


def missing(column: Any) -> npt.NDArray[np.bool_]:
    """Where a pyarrow column has no value, or no number."""
    import pyarrow.compute

    # a column of nothing but nulls has no type, and no NaN either
    return np.asarray(pyarrow.compute.is_null(column, nan_is_null=is_numeric(column)).to_numpy())


def is_numeric(column: Any) -> bool:
    """Whether a pyarrow column holds numbers."""
    import pyarrow.types

    kind = column.type
    return bool(pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind) or pyarrow.types.is_decimal(kind))


def is_text(column: Any) -> bool:
    """Whether a pyarrow column holds texts or truth values, or nothing."""
    import pyarrow.types

    kind = column.type.value_type if pyarrow.types.is_dictionary(column.type) else column.type
    plain = (pyarrow.types.is_string, pyarrow.types.is_large_string, pyarrow.types.is_boolean, pyarrow.types.is_null)
    return any(check(kind) for check in plain)


def check_range(name: str, column: Any, where: str) -> None:
    """Refuse a column with infinite numbers, or others that float32 does not hold.

    Raises:
        UserError: Naming the column.
    """
    beyond = int((np.abs(_numbers(column)) > np.finfo(np.float32).max).sum())
    if beyond:
        raise UserError(
            f"the column '{name}' has numbers that are infinite or beyond float32 in {beyond:,} rows; "
            "leave these empty",
            where,
        )


class Encoder(ABC):
    """What a column becomes.

    Args:
        column: Its name.
        names: Those of the features that it becomes.
    """

    def __init__(self, column: str, names: Sequence[str]) -> None:
        self.column, self.names = column, tuple(names)

    @property
    @abstractmethod
    def treatment(self) -> str:
        """What is done where the column has no value, in words."""

    @abstractmethod
    def encode(self, column: Any) -> Features:
        """The features of all rows, float32 ``(rows, len(names))``."""


class Standardised(Encoder):
    """Numbers: mean 0 and deviation 1 in training; what is missing is the mean, and marked in a second column."""

    def __init__(self, column: str, values: Any, train: Rows) -> None:
        present = _numbers(values)[train]
        known = present[~np.isnan(present)]
        self.statistics = Statistics.of(known, per_feature=True) if len(known) else None
        marks = bool(np.isnan(present).any())
        varies = len(np.unique(known)) > 1
        self.parts = (varies, marks and len(known) > 0)
        super().__init__(
            column, [name for name, kept in zip((column, f"{column} missing"), self.parts, strict=True) if kept]
        )

    @property
    def treatment(self) -> str:
        """The mark is there only where training has something to learn it from."""
        if not self.parts[0]:
            return "a column marks it"
        return "the training mean stands in" + (", and a column marks it" if self.parts[1] else "")

    def encode(self, column: Any) -> Features:
        """The standardised number, and whether it was missing."""
        values = _numbers(column)
        absent = np.isnan(values)
        parts: list[Features] = []
        if self.statistics is not None and self.parts[0]:
            mean = float(np.asarray(self.statistics.mean).reshape(-1)[0])
            parts.append(self.statistics.apply(np.where(absent, mean, values)[:, None]))
        if self.parts[1]:
            parts.append(absent[:, None].astype(np.float32))
        return np.concatenate(parts, axis=1)


class OneHot(Encoder):
    """Text and truth values: one column for each value of training; others are all zeros."""

    def __init__(self, column: str, values: Any, train: Rows) -> None:
        present = _texts(values)[train]
        self.values = np.unique(present)
        constant = len(self.values) < 2
        super().__init__(column, [] if constant else [f"{column}={value or 'missing'}" for value in self.values])

    @property
    def treatment(self) -> str:
        """What the training rows do not have is all zeros, as any other value."""
        return "a value of its own" if "" in self.values else "all zeros, as no training row is"

    def encode(self, column: Any) -> Features:
        """1 in the column of the row's value."""
        features: Features = (_texts(column)[:, None] == self.values[None]).astype(np.float32)
        return features


def encoder_of(name: str, column: Any, train: Rows, most_values: int, where: str) -> Encoder:
    """The encoder for a column's type.

    Args:
        name: Of the column.
        column: pyarrow's.
        train: The numbers of the training rows.
        most_values: The most different values of a column of text.
        where: The file, for messages.

    Raises:
        UserError: For a column of dates or of another type, with too many values, or with numbers beyond float32.
    """
    if is_numeric(column):
        check_range(name, column, where)
        return Standardised(name, column, train)
    if is_text(column):
        encoder = OneHot(name, column, train)
        if len(encoder.names) > most_values:
            raise UserError(
                f"the column '{name}' has {len(encoder.names):,} different values in training; leave it out by "
                f"ignore: [{name}], or raise most_values from {most_values}",
                where,
            )
        return encoder
    raise UserError(
        f"the column '{name}' holds {column.type}, neither numbers nor text; convert it, or leave it out by "
        f"ignore: [{name}]",
        where,
    )


def _numbers(column: Any) -> npt.NDArray[np.float64]:
    import pyarrow

    # not safe: whole numbers above 2^53 are rounded, as all are to float32 afterwards
    return np.asarray(column.cast(pyarrow.float64(), safe=False).to_numpy(), np.float64)


def _texts(column: Any) -> npt.NDArray[np.str_]:
    """Missing values are the empty text."""
    return np.array(["" if value is None else str(value) for value in column.to_pylist()], dtype=np.str_)
