"""Files that hold all of the old content or all of the new, after any kill or power cut."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

# What a killed writer leaves. The name does not contain the file's own, which may already be as long as names can be.
TEMPORARY = re.compile(r"\.trainoff-[0-9a-f]{32}\.tmp")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write the new content of ``path`` into; it takes that place when the block ends without an error.

    It is written beside its place, so that the move is one within a file system, and on the disk before the move.

    Args:
        path: New, or to be replaced; its folder exists.

    Raises:
        OSError: Where it cannot be written; ``path`` is as it was, and nothing lies beside.
    """
    temporary = path.parent / f".trainoff-{uuid.uuid4().hex}.tmp"
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Put a folder's names on the disk: without this a rename may be lost in a power cut.

    Raises:
        OSError: Where it cannot be opened.
    """
    if os.name == "nt":  # cannot open a folder, and needs it less
        return
    folder = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that sync no folders
            raise
    finally:
        os.close(folder)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writers left half-written; for whoever alone writes there."""
    for name in os.listdir(folder):
        if TEMPORARY.fullmatch(name):
            (folder / name).unlink(missing_ok=True)
