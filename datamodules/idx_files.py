"""The idx format of MNIST and its kin, plain or compressed with gzip: unsigned bytes only."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from trainoff.datamodules.whole_files import write_whole
from trainoff.errors import UserError


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Read an idx file of unsigned bytes.

    Args:
        path: The file; a name that ends in ``.gz`` is decompressed.

    Returns:
        An array of the shape that the file states.

    Raises:
        UserError: Naming the file, where it is missing, truncated, corrupt or of another format.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise UserError(f"cannot be read ({error}); get the file again", str(path)) from error
    dimensions = content[3] if len(content) >= 4 else 0
    start = 4 + 4 * dimensions
    if content[:3] != b"\0\0\x08" or not dimensions or len(content) < start:
        raise UserError("is not an idx file of unsigned bytes; get the file again", str(path))
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise UserError(
            f"holds {len(content) - start} bytes of data in place of {math.prod(shape)}; get the file again", str(path)
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def is_whole_idx(path: Path) -> bool:
    """Whether an uncompressed file is as long as its header says; of a compressed one only that it is there."""
    if path.suffix == ".gz":
        return path.exists()
    with path.open("rb") as file:
        header = file.read(4)
        dimensions = header[3] if len(header) == 4 else 0
        sizes = file.read(4 * dimensions)
    if len(sizes) != 4 * dimensions or not dimensions:
        return False
    return path.stat().st_size == 4 + 4 * dimensions + int(math.prod(struct.unpack(f">{dimensions}I", sizes)))


def write_idx(path: Path, values: npt.NDArray[np.uint8]) -> None:
    """Write an uncompressed idx file, all of it or nothing."""

    def write(file: IO[bytes]) -> None:
        file.write(struct.pack(f">2xBB{values.ndim}I", 8, values.ndim, *values.shape))
        file.write(np.ascontiguousarray(values).data)

    write_whole(path, write)
