"""The run folder: the suite as resolved, and one record a trial, safe against a kill at any moment.

``DIR/suite.yaml``, ``DIR/records/<trial id>.json``, and ``DIR/.lock``, which one process at a time holds. A record
is a whole file or none: it is written beside its place and renamed. A file that cannot be read is reported and left
alone; where a record has to take its place, it is kept as ``<trial id>.json.unreadable-1`` (or the next number).
Records that the suite no longer asks for wait in ``DIR/set-aside``, where no board counts them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from trainoff.atomic_files import remove_leftovers, replacing, sync_folder
from trainoff.benchmarks.folder_lock import FolderLock
from trainoff.benchmarks.record import SCHEMA_VERSION, Record, from_json, to_json
from trainoff.benchmarks.suite_yaml import read_yaml
from trainoff.benchmarks.trial import Stage
from trainoff.errors import UserError


@dataclass(frozen=True)
class Problem:
    """A file among the records that is none: where it is, and why in one line."""

    path: Path
    reason: str


class RunFolder:
    """A run folder; entering it makes the folder and holds it against every other process.

    Reading needs no lock. The lock lasts exactly as long as the process that took it, however that ends.

    Args:
        path: The folder. Its parents are made too.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock: FolderLock | None = None

    @property
    def suite_path(self) -> Path:
        """The suite as resolved."""
        return self.path / "suite.yaml"

    @property
    def _aside_path(self) -> Path:
        return self.path / "set-aside"

    @property
    def records_path(self) -> Path:
        """The folder of the records."""
        return self.path / "records"

    @property
    def _checkpoints_path(self) -> Path:
        return self.path / "checkpoints"

    def checkpoint_path(self, trial_id: str) -> Path:
        """Where a trial keeps the checkpoint that it goes on from after a kill; writing its record removes it."""
        return self._checkpoints_path.absolute() / f"{trial_id}.ckpt"

    def __enter__(self) -> RunFolder:
        """Make the folder, lock it, and remove what killed writers left half-written.

        Raises:
            UserError: Where another process holds the folder, or it cannot be made or written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(self.path)
        except OSError as error:
            raise _folder_problem(self.path, error) from error
        try:
            self.records_path.mkdir(exist_ok=True)
            folders = (self.path, self.records_path, self._aside_path, self._checkpoints_path)
            for folder in filter(Path.is_dir, folders):
                remove_leftovers(folder)
            self._remove_spent_checkpoints()
        except BaseException as error:
            self._release()
            if isinstance(error, OSError):
                raise _folder_problem(self.records_path, error) from error
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # not empty, or not there
            self._checkpoints_path.rmdir()
        self._release()

    def _remove_spent_checkpoints(self) -> None:
        """Remove those of finished trials: a kill may have come between a record and this."""
        for path in self._checkpoints_path.glob("*.ckpt"):
            record = _read(self.records_path / f"{path.stem}.json")
            if isinstance(record, Record) and record.status != "interrupted":
                path.unlink()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def write(self, record: Record) -> None:
        """Write a record in place of the trial's earlier one; what cannot be read there is kept beside it.

        Raises:
            UserError: Where the disk is full or the folder not writable; what stood there is untouched.
        """
        path = self._path_of(record.trial.id, self.records_path)
        _make_room(path)
        write_atomically(path, to_json(record))
        if record.status != "interrupted":
            self.checkpoint_path(record.trial.id).unlink(missing_ok=True)

    def set_aside(self, trial_id: str) -> None:
        """Move a trial's record out of the records; it can be restored. Does nothing where there is none.

        Raises:
            UserError: Where the folder is not writable.
        """
        path, aside = self._path_of(trial_id, self.records_path), self._path_of(trial_id, self._aside_path)
        if isinstance(_read(path), Problem):
            return
        try:
            self._aside_path.mkdir(exist_ok=True)
        except OSError as error:
            raise _folder_problem(self._aside_path, error) from error
        _make_room(aside)
        _move(path, aside)

    def restore(self, trial_id: str) -> Record | None:
        """Bring back a record that was set aside; None where there is none, or a newer one stands in its place.

        Raises:
            UserError: Where the folder is not writable.
        """
        path, aside = self._path_of(trial_id, self.records_path), self._path_of(trial_id, self._aside_path)
        record = _read(aside)
        if isinstance(record, Problem) or isinstance(_read(path), Record):
            return None
        _make_room(path)
        _move(aside, path)
        return record

    def relabel(self, trial_id: str, stage: Stage, tuned: dict[str, Any]) -> None:
        """Say in a trial's record that it counts for something else now. Does nothing where there is none."""
        record = _read(self._path_of(trial_id, self.records_path))
        if isinstance(record, Record):
            record.trial.stage, record.trial.tuned = stage, tuned
            self.write(record)

    def _path_of(self, trial_id: str, folder: Path) -> Path:
        if self._lock is None:
            raise RuntimeError("a run folder is changed inside `with folder:`")
        if not re.fullmatch(r"[\w-]{1,100}", trial_id, re.ASCII):
            raise ValueError(f"the trial id {trial_id!r} cannot be a file's name")
        return folder / f"{trial_id}.json"

    def write_suite(self, text: str) -> None:
        """Write ``suite.yaml``: the suite as resolved.

        Raises:
            UserError: Where the disk is full or the folder not writable.
        """
        write_atomically(self.suite_path, text.encode())

    def suite_name(self) -> str | None:
        """Name of the suite that the folder holds; None where it holds none, or one without a name.

        Raises:
            UserError: Where ``suite.yaml`` is not a suite file.
        """
        if not os.path.lexists(self.suite_path):
            return None
        data = read_yaml(self.suite_path).data
        name = data.get("name") if isinstance(data, dict) else None
        return name if isinstance(name, str) else None

    def read_all(self) -> tuple[dict[str, Record], list[Problem]]:
        """All records by trial id, and the ``.json`` files that are no record of this folder, in order of name.

        Raises:
            UserError: Where there is no such folder.
        """
        records: dict[str, Record] = {}
        problems: list[Problem] = []
        for found in self.read_each():
            if isinstance(found, Problem):
                problems.append(found)
            else:
                records[found.trial.id] = found
        return records, problems

    def read_each(self) -> Iterator[Record | Problem]:
        """What :meth:`read_all` gives, one at a time."""
        return (_read(self.records_path / name) for name in self._record_names())

    def _record_names(self) -> list[str]:
        try:
            names = os.listdir(self.records_path)
        except FileNotFoundError as error:
            if self.path.is_dir():
                return []
            raise UserError("there is no such run folder", str(self.path)) from error
        except OSError as error:
            raise UserError(f"cannot be read: {error.strerror}", str(self.records_path)) from error
        return sorted(name for name in names if name.endswith(".json") and not name.startswith("."))


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file so that at any moment, after any kill or power cut, it holds all of the old content or the new.

    Args:
        path: The file, new or to be replaced; its folder exists.
        content: All of it.

    Raises:
        UserError: Where the disk is full or the place not writable; the file is as it was, and nothing lies beside.
    """
    try:
        with replacing(Path(path)) as file:
            file.write(content)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"the disk is full ({len(content):,} bytes to write); nothing is lost, make room and run "
                            "again", str(path)) from error  # fmt: skip
        raise UserError(f"cannot be written: {error.strerror or error}", str(path)) from error


def _read(path: Path) -> Record | Problem:
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            return Problem(path, "not a regular file")
        record = from_json(path.read_bytes())
    except OSError as error:
        return Problem(path, f"cannot be read: {error.strerror}")
    except (ValueError, RecursionError) as error:
        return Problem(path, " ".join(str(error).split()))
    if record.schema_version > SCHEMA_VERSION:  # it decodes where only meanings changed
        return Problem(path, f"written by a newer trainoff (record schema {record.schema_version})")
    if path.name != f"{record.trial.id}.json":
        return Problem(path, f"the record of another trial ({record.trial.id!r}) under this name")
    return record


def _make_room(path: Path) -> None:
    """Keep whatever stands there and is not this trial's record under another name."""
    # lexists: a dangling link is somebody's too
    if not os.path.lexists(path) or isinstance(_read(path), Record):
        return
    number = 1
    while os.path.lexists(kept := path.with_name(f"{path.name}.unreadable-{number}")):
        number += 1
    _move(path, kept)


def _move(path: Path, new: Path) -> None:
    try:
        os.replace(path, new)
        for folder in {path.parent, new.parent}:
            sync_folder(folder)
    except OSError as error:
        raise UserError(f"cannot be moved to {new.name}: {error.strerror}", str(path)) from error


def _folder_problem(path: Path, error: OSError) -> UserError:
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return UserError("is a file, or lies in one; a run needs a folder", str(path))
    return UserError(f"cannot be used as a run folder: {error.strerror or error}", str(path))
