"""A fork server for the processes that came from it: they may ask it for more of their kind."""

from __future__ import annotations

from multiprocessing import forkserver
from typing import Any

_server: Any = forkserver._forkserver  # type: ignore[attr-defined]


def fork_server_address() -> str:
    """Where Python's fork server listens; empty where this process knows of none."""
    return _server._forkserver_address or ""


def join_fork_server(address: str) -> None:
    """Let this process, which came from a fork server, ask the same one for further processes.

    Python would start another one, and import all anew: a fork server does not tell its children where it listens.
    From Python 3.14 on it also wants a key of them, and another one it is.
    """
    if address and not hasattr(_server, "_forkserver_authkey"):
        _server._forkserver_address = address
        # It is no child of this process, and needs no starting.
        _server.ensure_running = forkserver.ensure_running = _nothing


def leave_fork_server() -> None:
    """Undo :func:`join_fork_server`, as that fork server is gone."""
    vars(_server).pop("ensure_running", None)
    forkserver.ensure_running = _server.ensure_running


def _nothing() -> None:
    """In place of a method that would start what runs already."""
