"""Parquet and Arrow files as one data set that is mapped into memory."""

from __future__ import annotations

import glob
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainoff.errors import UserError

if TYPE_CHECKING:
    import datasets
    import pyarrow

_FOOTER_BYTES = 8  # the length of a Parquet file's footer, and the four letters at the end
_ARROW_FILE = b"ARROW1"  # how Arrow's file format begins; its stream format has no such letters
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.\w+")
_CHUNK = 2**20


def find_files(path: str) -> list[Path]:
    """The files of a path: itself, those that fit a pattern, or those in a folder.

    Raises:
        UserError: Where there are none, where a folder holds several sets, or files of both kinds, and for a set that
            was not saved or downloaded whole.
    """
    given = Path(path).expanduser()
    found = _in_folder(given) if given.is_dir() else sorted(map(Path, glob.glob(str(given))))
    if not found:
        raise UserError("there is no such file, and no file fits the pattern", path)
    kinds = {_is_arrow(file) for file in found}
    if len(kinds) > 1:
        raise UserError("has files that end in .arrow and others; give a pattern for those of one kind", path)
    return found


def open_mapped(files: Sequence[Path]) -> Any:
    """The files as one ``datasets.Dataset``: Arrow files as they lie, of Parquet files the copy in its cache.

    Raises:
        UserError: Naming the file that is not whole or cannot be mapped, and columns that differ from the first one's.
    """
    try:
        import datasets
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise UserError(f"Parquet needs the package '{error.name}'; pip install datasets", "parquet_stream") from error
    if _is_arrow(files[0]):
        tables = [_read(_arrow_table, file) for file in files]
        _check_columns(files, [table.schema for table in tables])
        # with a fingerprint of its own: to make one, `datasets` would copy the rows
        parts = [datasets.Dataset(table, fingerprint=f"part {number}") for number, table in enumerate(tables)]
        return datasets.concatenate_datasets(parts)
    _check_columns(files, [_read(pyarrow.parquet.read_schema, file) for file in files])
    try:
        return datasets.Dataset.from_parquet([str(file) for file in files])
    except Exception as error:  # a dozen types; the rows of one file cannot be read
        broken = next((file for file in files if not _is_readable(file)), files[0])
        raise UserError(f"its rows cannot be read ({_one_line(error)}); get it again", str(broken)) from error


def add_content(state: hashlib._Hash, file: Path) -> None:
    """Add what a file holds to a hash: all of an Arrow file, of a Parquet file its length and its footer.

    The footer has the counts, places and statistics of all columns, so that changed numbers change it in all but
    contrived cases. An Arrow file has nothing of the kind, and is read once.
    """
    state.update(file.stat().st_size.to_bytes(8, "little"))
    with file.open("rb") as opened:
        if not _is_arrow(file):
            opened.seek(-_FOOTER_BYTES, 2)
            length = int.from_bytes(opened.read(4), "little")
            opened.seek(-_FOOTER_BYTES - length, 2)
            state.update(opened.read(length))
            return
        while chunk := opened.read(_CHUNK):
            state.update(chunk)


def _in_folder(folder: Path) -> list[Path]:
    """A folder's files; those of ``Dataset.save_to_disk`` in the order that it notes."""
    if (several := folder / "dataset_dict.json").is_file():
        names = ", ".join(str(folder / name) for name in _noted(several, lambda noted: noted["splits"]))
        raise UserError(f"holds several sets; give path, val_path and test_path, of {names}", str(folder))
    if (saved := folder / "state.json").is_file():
        files = [folder / name for name in _noted(saved, lambda noted: [f["filename"] for f in noted["_data_files"]])]
    else:
        files = sorted([*folder.glob("*.parquet"), *folder.glob("*.arrow")])
        files += _missing_shards(files)
    for file in files:
        if not file.is_file():
            raise UserError(f"is missing, and {folder} is no whole set without it; get it again", str(file))
    return files


def _noted(file: Path, names: Callable[[Any], list[str]]) -> list[str]:
    try:
        return names(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError("is not as `save_to_disk` writes it; save or get the set again", str(file)) from error


def _missing_shards(files: Sequence[Path]) -> list[Path]:
    """Those that the names of the others tell of, such as ``train-00001-of-00003.parquet``."""
    missing = []
    for file in files:
        if match := _SHARD.fullmatch(file.name):
            count = int(match[3])
            shards = [file.with_name(f"{match[1]}-{place:05}-of-{count:05}{file.suffix}") for place in range(count)]
            missing += [shard for shard in shards if not shard.exists()]
    return missing


def _is_arrow(file: Path) -> bool:
    return file.suffix == ".arrow"


def _read(read: Callable[[Path], Any], file: Path) -> Any:
    import pyarrow

    try:
        return read(file)
    except (OSError, pyarrow.ArrowInvalid) as error:
        kind = "Arrow" if _is_arrow(file) else "Parquet"
        raise UserError(f"is no whole {kind} file ({_one_line(error)}); get it again", str(file)) from error


def _check_columns(files: Sequence[Path], schemas: Sequence[pyarrow.Schema]) -> None:
    for file, schema in zip(files, schemas, strict=True):
        if not schema.equals(schemas[0]):
            raise UserError(f"has other columns than {files[0]}", str(file))


def _arrow_table(file: Path) -> datasets.table.TableBlock:
    """The table of an Arrow file, of the stream or the file format; its columns lie in the mapped file.

    Raises:
        OSError: For a file that is not whole (also pyarrow's own errors).
        UserError: For compressed columns: they would be unpacked into memory, all at once.
    """
    import datasets
    import pyarrow

    mapped = pyarrow.memory_map(str(file))
    if mapped.size() < len(_END_OF_STREAM):
        raise OSError(f"of {mapped.size()} bytes")
    whole = mapped.read_buffer()
    is_stream = whole[: len(_ARROW_FILE)].to_pybytes() != _ARROW_FILE
    if not is_stream:
        reader = pyarrow.ipc.open_file(whole)
        batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
    elif whole[-len(_END_OF_STREAM) :].to_pybytes() == _END_OF_STREAM:
        reader = pyarrow.ipc.open_stream(whole)
        batches = iter(reader)
    else:  # cut between two batches it would pass for a shorter one
        raise OSError("it has no end")
    kept = []
    for batch in batches:
        buffers = [buffer for column in batch.columns for buffer in column.buffers() if buffer]
        if not all(whole.address <= buffer.address <= whole.address + whole.size for buffer in buffers):
            raise UserError(
                "its columns are compressed, and cannot be mapped; write it without compression", str(file)
            )
        batch.validate()
        kept.append(batch)
    table = pyarrow.Table.from_batches(kept, reader.schema)
    # the first one is pickled as the file's path, which `datasets` can open again where it is a stream
    return datasets.table.MemoryMappedTable(table, str(file)) if is_stream else datasets.table.InMemoryTable(table)


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
