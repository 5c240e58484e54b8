"""A file of rows that a training adds to and an upload reads: the training never waits for the upload."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_SECONDS_BETWEEN_LOOKS = 0.5


def follow(path: Path, ended: threading.Event) -> Iterator[dict[str, Any]]:
    """The rows of the file as they come, until ``ended`` is set and all that is there has been read.

    Args:
        path: JSON lines; need not exist yet.
        ended: No more rows come after it.
    """
    position, rest = 0, b""
    while True:
        over = ended.is_set()  # before reading: what is written afterwards is in the record
        content = b""
        if path.exists():
            with open(path, "rb") as file:
                file.seek(position)
                content = file.read()
                position += len(content)
        *lines, rest = (rest + content).split(b"\n")
        for line in lines:
            yield json.loads(line)
        if over:
            return
        ended.wait(_SECONDS_BETWEEN_LOOKS)
