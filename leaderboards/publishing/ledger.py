"""Which W&B run is whose, and what is already up: ``DIR/wandb.jsonl``, to which lines are only ever added.

A file of its own beside the records: records say what a trial measured, and stay byte for byte what they were when a
copy of them goes to a server, to another project or to a second server. A line is whole or it is not counted, so the
file is right after any kill; a hundred thousand trials cost one short line each.
"""

from __future__ import annotations

import os
import secrets
import string
from pathlib import Path

import msgspec

from trainoff.errors import UserError

_LETTERS = string.ascii_lowercase + string.digits


class Line(msgspec.Struct, omit_defaults=True):
    """One event.

    Attributes:
        place: ``host/entity/project``, or ``offline`` for runs that were written to disk.
        kind: ``run``, ``artifact`` or ``report``.
        key: The trial's id; the artifact's name; empty for the report.
        id: W&B's id of it.
        digest: Of the content that has arrived; empty where it was only begun.
        gone: Whether the id was found deleted there, which W&B never takes again.
    """

    place: str
    kind: str
    key: str
    id: str
    digest: str = ""
    gone: bool = False


class Ledger:
    """The ids of a run folder's copies on servers.

    Args:
        folder: The run folder; whoever writes holds its lock.
        place: Where the copies go.

    Raises:
        UserError: Where the file cannot be read.
    """

    def __init__(self, folder: Path, place: str) -> None:
        self.path = folder / "wandb.jsonl"
        self.place = place
        self._here: dict[tuple[str, str], Line] = {}
        self._first: dict[str, str] = {}  # of a trial the id it got first, in whatever place
        self._gone: set[str] = set()
        for line in self._read():
            self._note(line)

    def run_id(self, trial: str) -> str:
        """The id of a trial's run, minted where it has none: the same in every place, unless it was deleted there."""
        known = self._here.get(("run", trial))
        if known is not None and not known.gone:
            return known.id
        first = self._first.get(trial)
        identity = first if first is not None and first not in self._gone else _mint()
        self._add(Line(self.place, "run", trial, identity))
        return identity

    def find(self, kind: str, key: str = "") -> Line | None:
        """What is known of a thing in this place; None where nothing is, or it was deleted."""
        line = self._here.get((kind, key))
        return None if line is None or line.gone else line

    def arrived(self, kind: str, key: str, identity: str, digest: str) -> None:
        """Note that a thing is up with this content."""
        known = self._here.get((kind, key))
        if known is None or (known.id, known.digest, known.gone) != (identity, digest, False):
            self._add(Line(self.place, kind, key, identity, digest))

    def begun(self, kind: str, key: str, identity: str) -> None:
        """Note that a thing exists whose content may be incomplete."""
        self._add(Line(self.place, kind, key, identity))

    def deleted(self, kind: str, key: str) -> None:
        """Note that somebody deleted it: it gets a new id."""
        line = self._here[kind, key]
        self._add(Line(self.place, kind, key, line.id, gone=True))

    def _add(self, line: Line) -> None:
        try:
            with open(self.path, "ab") as file:
                # After a half-written line: begin a new one.
                file.write((b"" if self._ends_whole() else b"\n") + msgspec.json.encode(line) + b"\n")
        except OSError as error:
            raise UserError(f"cannot be written: {error.strerror}", str(self.path)) from error
        self._note(line)

    def _ends_whole(self) -> bool:
        try:
            with open(self.path, "rb") as file:
                file.seek(-1, os.SEEK_END)
                return file.read(1) == b"\n"
        except OSError:
            return True

    def _note(self, line: Line) -> None:
        if line.kind == "run":
            self._first.setdefault(line.key, line.id)
        if line.place == self.place:
            self._here[line.kind, line.key] = line
            if line.gone:
                self._gone.add(line.id)

    def _read(self) -> list[Line]:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(f"cannot be read: {error.strerror}", str(self.path)) from error
        lines = []
        for text in content.splitlines():
            try:
                lines.append(msgspec.json.decode(text, type=Line))
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue  # cut off by a kill or a full disk
        return lines


def _mint() -> str:
    """As W&B's own: eight letters and digits would collide among millions, so twelve."""
    return "".join(secrets.choice(_LETTERS) for _ in range(12))
