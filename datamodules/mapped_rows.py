"""Parquet files as memory-mapped rows: columns become tensors when they are read, and not before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainoff.datamodules.block_stream import Blocks
from trainoff.errors import UserError, closest

_FOOTER_BYTES = 8  # the length of the footer, and the four letters at the end


def open_mapped(files: Sequence[Path]) -> Any:
    """The files as one ``datasets.Dataset``, its Arrow copy mapped into memory.

    Raises:
        UserError: Naming the file that is no whole Parquet file, and columns that differ from the first one's.
    """
    try:
        import datasets
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise UserError(f"Parquet needs the package '{error.name}'; pip install datasets", "parquet_stream") from error
    first = None
    for file in files:
        try:
            schema = pyarrow.parquet.read_schema(file)
        except (OSError, pyarrow.ArrowInvalid) as error:
            raise UserError(f"is no whole Parquet file ({_one_line(error)}); get it again", str(file)) from error
        first = first or schema
        if not schema.equals(first):
            raise UserError(f"has other columns than {files[0]}", str(file))
    try:
        return datasets.Dataset.from_parquet([str(file) for file in files])
    except Exception as error:  # a dozen types; the rows of one file cannot be read
        broken = next((file for file in files if not _is_readable(file)), files[0])
        raise UserError(f"its rows cannot be read ({_one_line(error)}); get it again", str(broken)) from error


def read_footer(file: Path) -> bytes:
    """The description at the end of a Parquet file: counts, places and statistics of its columns."""
    with file.open("rb") as opened:
        opened.seek(-_FOOTER_BYTES, 2)
        length = int.from_bytes(opened.read(4), "little")
        opened.seek(-_FOOTER_BYTES - length, 2)
        return opened.read(length)


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
        self.inputs, self.target, self.tokens, self.num_classes, self.where = (
            inputs,
            target,
            tokens,
            num_classes,
            where,
        )
        for name in [*inputs, *filter(None, (target, tokens))]:
            if name not in dataset.column_names:
                near = closest(name, dataset.column_names)
                raise UserError(f"has no column '{name}'{near}; there are {', '.join(dataset.column_names)}", where)
        self._table = dataset.with_format("arrow")
        self._count = len(dataset)
        if not self._count:
            raise UserError("holds no rows", where)
        first = self._numbers(tokens or inputs[0], 0, 1)
        self.is_list = first.ndim == 2
        if tokens is not None and not self.is_list:
            raise UserError(f"'{tokens}' holds no lists of token numbers", where)
        width = first.shape[1] if self.is_list else len(inputs)
        self.input_shape = (width - 1,) if tokens is not None else (width,)
        self._mean: Tensor | None = None
        self._std = torch.ones(())

    def __len__(self) -> int:
        """All rows of the files."""
        return self._count

    def read(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of consecutive rows."""
        if self.tokens is not None:
            ids = torch.from_numpy(self._numbers(self.tokens, start, stop).astype(np.int64))
            return ids[:, :-1], ids[:, 1:]
        columns = [self._numbers(name, start, stop).astype(np.float32) for name in self.inputs]
        inputs = torch.from_numpy(columns[0] if self.is_list else np.stack(columns, 1))
        if self._mean is not None:
            inputs = (inputs - self._mean) / self._std
        targets = self._numbers(self.target or "", start, stop)
        if self.num_classes is None:
            return inputs, torch.from_numpy(targets.astype(np.float32))[:, None]
        return inputs, torch.from_numpy(targets.astype(np.int64))

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
        import pyarrow.types

        column = self._table[start:stop].column(name).combine_chunks()
        if (
            pyarrow.types.is_list(column.type)
            or pyarrow.types.is_fixed_size_list(column.type)
            or (pyarrow.types.is_large_list(column.type))
        ):
            values = np.asarray(column.flatten().to_numpy(zero_copy_only=False))
            if len(values) % (stop - start) or column.null_count:
                raise UserError(f"'{name}' holds lists of different lengths", self.where)
            values = values.reshape(stop - start, -1)
        else:
            values = np.asarray(column.to_numpy(zero_copy_only=False))
        if values.dtype.kind not in "iufb":
            raise UserError(f"'{name}' holds {column.type}, no numbers", self.where)
        return values


def _is_readable(file: Path) -> bool:
    import pyarrow.parquet

    try:
        opened = pyarrow.parquet.ParquetFile(file)
        for group in range(opened.num_row_groups):
            opened.read_row_group(group)
    except Exception:  # whatever pyarrow raises for broken pages
        return False
    return True


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error.__cause__ or error).split())
    return text if len(text) <= 200 else text[:200] + "..."
