"""Tables as files of each kind that :class:`ParquetStream` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from trainoff.datamodules import ParquetStream

Kind = Literal["parquet", "arrow stream", "arrow file"]
KINDS: tuple[Kind, ...] = ("parquet", "arrow stream", "arrow file")
ROWS = 1003


def write_table(table: pa.Table, path: Path, kind: Kind = "parquet", compression: str | None = None,
                rows: int = 100) -> Path:  # fmt: skip
    """The file, in groups or batches of so many rows; ``path`` has no suffix."""
    path = path.with_name(path.name + (".parquet" if kind == "parquet" else ".arrow"))
    if kind == "parquet":
        pyarrow.parquet.write_table(table, path, row_group_size=rows)
        return path
    new = pa.ipc.new_stream if kind == "arrow stream" else pa.ipc.new_file
    with new(path, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=rows)
    return path


def write_numbers(
    folder: Path, rows: int = ROWS, files: int = 3, name: str = "part", kind: Kind = "parquet"
) -> dict[str, np.ndarray]:
    """Files of one table: two columns of numbers, a constant one and four classes."""
    generator = np.random.default_rng(0)
    columns = {
        "a": generator.normal(5, 3, rows),
        "b": generator.integers(0, 100, rows),
        "c": np.full(rows, 2.5, np.float32),
        "y": generator.integers(0, 4, rows),
    }
    for number, part in enumerate(np.array_split(np.arange(rows), files)):
        table = pa.table({key: values[part] for key, values in columns.items()})
        write_table(table, folder / f"{name}-{number}", kind)
    return columns


def stream_of(folder: Path, name: str = "part-*", **arguments: Any) -> ParquetStream:
    """The DataModule of such files."""
    chosen = {"inputs": ["a", "b", "c"], "target": "y", "num_classes": 4, "block": 50, "window": 3, **arguments}
    return ParquetStream(str(folder / name), **chosen)
