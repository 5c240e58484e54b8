"""The lock of a run folder: one process at a time, for exactly as long as it lives."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from trainoff.errors import UserError

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}

_held: set[int] = set()  # descriptors of the locks of this process


def _close_in_child() -> None:
    # O_CLOEXEC covers exec only. A forked child (a DataLoader's worker) shares the open file, and with it the lock,
    # which would then outlive its holder. Closing does not unlock: the parent's descriptor still holds.
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


class FolderLock:
    """An exclusive ``flock`` on ``DIR/.lock``, whose content says who holds it.

    The kernel frees a flock when its process ends, in whatever way. Some network file systems have none (Lustre
    mounted without ``flock``, NFS without its lock daemon): there, a file ``.lock-owner`` made exclusively stands
    for the lock. A killed holder leaves it behind, so one of this host whose process is gone is taken over; of one
    on another host nothing can be known, and the user decides.

    Args:
        folder: The folder to hold; it exists.

    Raises:
        UserError: Where another process holds it; the message says which.
        OSError: Where the lock file cannot be made or written.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import fcntl
        except ImportError as error:
            raise UserError("run folders are locked with flock, which Windows lacks; run under WSL",
                            str(folder)) from error  # fmt: skip
        self._owner: Path | None = None
        self._descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise _in_use(folder, os.pread(self._descriptor, 4096, 0)) from error
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                self._owner = _own(folder)
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, _identity(), 0)
        except BaseException:
            os.close(self._descriptor)
            if self._owner is not None:
                self._owner.unlink(missing_ok=True)
            raise
        _held.add(self._descriptor)

    def release(self) -> None:
        """Free the folder; in a forked child, do nothing: the lock is the parent's."""
        if self._descriptor not in _held:
            return
        _held.discard(self._descriptor)
        if self._owner is not None:
            self._owner.unlink(missing_ok=True)
        # The file stays: were it removed, a process that has it open would lock a file that nobody else can see.
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def _own(folder: Path) -> Path:
    path = folder / ".lock-owner"
    try:
        _write_new(path, _identity())
    except FileExistsError as error:
        content = path.read_bytes()
        holder = _parse(content)
        if holder.get("host") != socket.gethostname() or _lives(holder.get("pid")):
            raise _in_use(folder, content, f"; if that run has ended, delete {path}") from error
        # Two processes may find the same dead holder; one of the two then fails here, with FileExistsError.
        path.unlink(missing_ok=True)
        try:
            _write_new(path, _identity())
        except FileExistsError as another:
            raise _in_use(folder, b"") from another
    return path


def _write_new(path: Path, content: bytes) -> None:
    with open(path, "xb") as file:
        file.write(content)


def _identity() -> bytes:
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    return json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}).encode() + b"\n"


def _parse(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:  # the holder may be about to write it
        return {}
    return found if isinstance(found, dict) else {}


def _lives(pid: object) -> bool:
    try:
        os.kill(int(str(pid)), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _in_use(folder: Path, content: bytes, advice: str = "") -> UserError:
    holder = _parse(content)
    who = f"process {holder['pid']} on host {holder.get('host')} since {holder.get('since')}" if "pid" in holder else (
        "another process")  # fmt: skip
    return UserError(f"run folder {folder} is in use by {who}{advice}")
