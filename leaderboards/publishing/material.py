"""What a run folder holds to be published, read once and cleaned of secrets, and the files of its board."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from trainoff.benchmarks.record import Record, to_json
from trainoff.benchmarks.secret_scan import REMOVED, without_secrets, without_values
from trainoff.benchmarks.store import RunFolder
from trainoff.leaderboards import Board, read_board
from trainoff.leaderboards.numbers import count_text
from trainoff.leaderboards.publishing.run_content import content_of
from trainoff.leaderboards.render import render
from trainoff.leaderboards.report.description import Report
from trainoff.leaderboards.report.making import make_report


@dataclass(frozen=True)
class Material:
    """What a run folder holds, read once."""

    folder: Path
    records: dict[str, Record]
    board: Board

    @classmethod
    def read(cls, folder: Path) -> Material:
        """Read it; an interrupted trial will run again and has nothing to show yet.

        Raises:
            UserError: For a folder that is missing or holds no record.
        """
        board = read_board(folder)
        records, _ = RunFolder(folder).read_all()
        # Cleaned here, so that nothing that is made of them can hold a secret.
        clean = {
            key: msgspec.convert(without_secrets(msgspec.to_builtins(each)), Record)
            for key, each in records.items()
            if each.status != "interrupted"
        }
        return cls(folder, clean, board)

    @property
    def note(self) -> list[str]:
        """How many records held a secret, where any did."""
        hidden = sum(REMOVED.encode() in to_json(record) for record in self.records.values())
        return [f"{count_text(hidden, 'record')} held what looks like a secret; it is left out"] if hidden else []

    def report(self) -> Report:
        """What there is to say about it."""
        return make_report(self.board, list(self.records.values()), self.folder)

    @property
    def name(self) -> str:
        """The artifact's."""
        suites = sorted({record.trial.suite for record in self.records.values()})
        kept = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in "-".join(suites))
        return f"{kept or 'suite'}-board"[:120]


@dataclass(frozen=True)
class Wanted:
    """As much of a run's content as tells whether it is up: ten thousand whole ones would be hundreds of megabytes.

    Args:
        name: The run's.
        digest: Of the content.
        rows: How many there are.
    """

    name: str
    digest: str
    rows: int

    @classmethod
    def of(cls, record: Record) -> Wanted:
        """Of a record's run."""
        content = content_of(record)
        return cls(content.name, content.digest, len(content.rows))


def board_files(material: Material, place: Path) -> dict[str, str]:
    """The records, the suite and the board, without what looks like a secret."""
    files: dict[str, str] = {}

    def add(name: str, content: bytes) -> None:
        path = place / name.replace("/", "-")
        path.write_bytes(content)
        files[name] = str(path)

    add("board.html", without_values(render(material.board, "html")).encode())
    add("board.md", without_values(render(material.board, "markdown")).encode())
    suite = material.folder / "suite.yaml"
    if suite.is_file():
        add("suite.yaml", without_values(suite.read_text(encoding="utf-8", errors="replace")).encode())
    for key, record in sorted(material.records.items()):
        add(f"records/{key}.json", to_json(record))
    return files


def digest_of(files: dict[str, str]) -> str:
    """SHA-256 of the files' names and contents."""
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        digest.update(name.encode() + b"\0" + Path(path).read_bytes() + b"\0")
    return digest.hexdigest()
