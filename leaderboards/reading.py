"""Run folders to a board."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from trainoff.benchmarks.record import Curves, Record, UnreadableRecord, from_json
from trainoff.errors import UserError
from trainoff.leaderboards.asked import Asked, asked_of, merged, searched_cost, suite_of
from trainoff.leaderboards.board import Board
from trainoff.leaderboards.failures import shortened

Folder = str | os.PathLike[str]


def read_board(folders: Folder | Sequence[Folder]) -> Board:
    """The board of one or more run folders (``DIR/records/*.json``). Nothing in them is changed.

    Where ``DIR/suite.yaml`` asks for trials that have no record, the board says so.

    A trial that stands in several folders counts once. A file that is no record, or one of a newer schema, is left
    alone and named in :attr:`Board.problems`.

    Args:
        folders: A run folder, or several.

    Raises:
        UserError: For a folder that is missing or holds no record.
    """
    paths = [Path(folders)] if isinstance(folders, (str, os.PathLike)) else [Path(folder) for folder in folders]
    if not paths:
        raise UserError("no run folder is given")
    problems: list[str] = []
    suites = [_suite(path, problems) for path in paths]
    asked = merged([asked for asked, _ in suites])
    costs = {name: cost for _, of_suite in suites for name, cost in of_suite.items()}
    return Board.from_records(_records(paths, problems), problems, asked, costs)


def _suite(folder: Path, problems: list[str]) -> tuple[Asked, dict[str, str]]:
    try:
        suite = suite_of(folder)
        return asked_of(suite, folder / "suite.yaml"), searched_cost(suite)
    except UserError as error:  # the records are there all the same
        problems.append(str(error))
        return {}, {}


def _records(folders: Sequence[Path], problems: list[str]) -> Iterator[Record]:
    for folder in folders:
        count, before = 0, len(problems)
        for path in _files(folder):
            found = _read(path)
            if isinstance(found, Record):
                count += 1
                yield found
            else:
                problems.append(f"{path}: {found}")
        if not count:
            unread = len(problems) - before
            reason = f"; none of its {unread} files can be read, the first: {problems[before]}" if unread else ""
            raise UserError(f"holds no records (records/*.json){reason}", str(folder))


def _files(folder: Path) -> list[Path]:
    place = folder / "records"
    try:
        names = os.listdir(place)
    except (FileNotFoundError, NotADirectoryError) as error:
        if folder.is_dir():
            raise UserError(
                "holds no records (no folder 'records' in it); is it a run folder?", str(folder)
            ) from error
        raise UserError("there is no such run folder", str(folder)) from error
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", str(place)) from error
    # Names with a leading dot are records being written.
    return [place / name for name in sorted(names) if name.endswith(".json") and not name.startswith(".")]


def _read(path: Path) -> Record | str:
    """The record without the parts that a board does not use, or why there is none."""
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            return "not a regular file"
        record = from_json(path.read_bytes())
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except (UnreadableRecord, ValueError, RecursionError) as error:
        return " ".join(str(error).split())
    record.curves = Curves()  # two thirds of a record's memory
    record.error = None if record.error is None else shortened(record.error)
    return record
