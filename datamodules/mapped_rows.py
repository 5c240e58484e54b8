"""Rows of a memory-mapped data set: columns become tensors when they are read, and not before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainoff.datamodules.block_stream import Blocks
from trainoff.errors import UserError, closest


class MappedRows:
    """Rows of a mapped data set as tensors.

    Args:
        dataset: A ``datasets.Dataset``.
        inputs: Columns of numbers, or one of lists of numbers.
        target: The column of targets.
        tokens: A column of lists of token numbers, in place of both.
        num_classes: Of the target; None for numbers.
        where: The path, for messages.

    Raises:
        UserError: For a column that there is not, or of a kind that cannot be read.
    """

    def __init__(
        self, dataset: Any, inputs: Sequence[str], target: str | None, tokens: str | None,
        num_classes: int | None, where: str,
    ) -> None:  # fmt: skip
        self.inputs, self.target, self.tokens = inputs, target, tokens
        self.num_classes, self.where = num_classes, where
        columns = [*inputs, *filter(None, (target, tokens))]
        for name in columns:
            if name not in dataset.column_names:
                near = closest(name, dataset.column_names)
                raise UserError(f"has no column '{name}'{near}; there are {', '.join(dataset.column_names)}", where)
        self._table = dataset.with_format("arrow", columns=list(dict.fromkeys(columns)))
        self._count = len(dataset)
        if not self._count:
            raise UserError("holds no rows", where)
        self._lengths: dict[str, int] = {}
        first = {name: self._numbers(name, 0, 1) for name in columns}
        self._lengths = {name: numbers.shape[1] for name, numbers in first.items() if numbers.ndim == 2}
        if tokens is not None and tokens not in self._lengths:
            raise UserError(f"'{tokens}' holds no lists of token numbers", where)
        if target in self._lengths:
            raise UserError(f"'{target}' holds lists; a target is a class or a number", where)
        self.is_list = bool(self._lengths)
        if self.is_list and len(inputs) > 1:
            raise UserError(f"'{next(iter(self._lengths))}' holds lists, and can be the only one of inputs", where)
        width = next(iter(self._lengths.values())) if self.is_list else len(inputs)
        self.input_shape = (width - 1,) if tokens is not None else (width,)
        self._mean: Tensor | None = None
        self._std = torch.ones(())

    def __len__(self) -> int:
        """All rows of the files."""
        return self._count

    def read(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of consecutive rows."""
        if self.tokens is not None:
            ids = self._classes(self.tokens, start, stop)
            return ids[:, :-1], ids[:, 1:]
        columns = [self._numbers(name, start, stop).astype(np.float32) for name in self.inputs]
        inputs = torch.from_numpy(columns[0] if self.is_list else np.stack(columns, 1))
        if self._mean is not None:
            inputs = (inputs - self._mean) / self._std
        target = self.target or ""
        if self.num_classes is not None:
            return inputs, self._classes(target, start, stop)
        return inputs, torch.from_numpy(self._numbers(target, start, stop).astype(np.float32))[:, None]

    def statistics(self, blocks: Blocks) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each input over these rows, in one pass (Chan et al. 1983, eq. 2.1)."""
        count, mean, squares = 0, np.zeros(self.input_shape), np.zeros(self.input_shape)
        for start, stop in zip(blocks.starts.tolist(), blocks.stops.tolist(), strict=True):
            part = self.read(start, stop)[0].numpy().astype(np.float64)
            added, shift = len(part), part.mean(0) - mean
            squares += ((part - part.mean(0)) ** 2).sum(0) + shift**2 * count * added / (count + added)
            mean += shift * added / (count + added)
            count += added
        std = np.sqrt(squares / count)
        std[std == 0] = 1
        return torch.from_numpy(mean).float(), torch.from_numpy(std).float()

    def standardise(self, mean: Tensor, std: Tensor) -> None:
        """From here on inputs are read with these taken out."""
        self._mean, self._std = mean, std

    def _numbers(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        """A column's numbers: ``(rows,)``, or ``(rows, length)`` of lists."""
        import pyarrow
        import pyarrow.types

        column = self._table[start:stop].column(name)
        try:
            column.validate(full=True)
        except pyarrow.ArrowInvalid as error:
            raise UserError(f"'{name}' is broken in {_rows(start, stop)}; get the file again", self.where) from error
        column = column.combine_chunks()
        is_list = (
            pyarrow.types.is_list(column.type)
            or pyarrow.types.is_large_list(column.type)
            or pyarrow.types.is_fixed_size_list(column.type)
        )
        if column.null_count:
            row = start + int(np.asarray(column.is_null()).argmax())
            raise UserError(f"'{name}' has no value in row {row + 1:,}; fill it or leave the row out", self.where)
        values = np.asarray((column.flatten() if is_list else column).to_numpy(zero_copy_only=False))
        if values.dtype.kind not in "iufb":
            raise UserError(f"'{name}' holds {column.type}, no numbers", self.where)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise UserError(
                f"'{name}' holds numbers that are missing or not finite in {_rows(start, stop)}", self.where
            )
        if not is_list:
            return values
        lengths = np.asarray(column.value_lengths())
        if (lengths != self._lengths.get(name, lengths[0])).any():
            raise UserError(f"'{name}' holds lists of different lengths", self.where)
        return values.reshape(stop - start, -1)

    def _classes(self, name: str, start: int, stop: int) -> Tensor:
        """A column's whole numbers below ``num_classes``."""
        numbers = self._numbers(name, start, stop)
        assert self.num_classes is not None
        outside = (numbers < 0) | (numbers >= self.num_classes) | (numbers % 1 != 0)
        if outside.any():
            raise UserError(
                f"'{name}' holds {numbers[outside].flat[0]} in {_rows(start, stop)}; num_classes={self.num_classes} "
                f"asks for whole numbers from 0 to {self.num_classes - 1}",
                self.where,
            )
        return torch.from_numpy(numbers.astype(np.int64))


def _rows(start: int, stop: int) -> str:
    return f"rows {start + 1:,} to {stop:,}"
