"""A W&B server on loopback, and run folders to publish. Nothing here reaches any other server."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from publishing_records import run_folder
from wandb_server import KEY, Server, serving


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The server, with this process's environment pointing there and a home of its own."""
    given = Server()
    home = tmp_path / "home"
    home.mkdir()
    with serving(given) as url:
        for name, value in {
            "WANDB_BASE_URL": url,
            "WANDB_API_KEY": KEY,
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_DIR": str(tmp_path),
            "WANDB_CONFIG_DIR": str(home),
            "WANDB_CACHE_DIR": str(home / "cache"),
            "WANDB_DATA_DIR": str(home / "data"),
            "NETRC": str(home / "netrc"),
            "HOME": str(home),
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("WANDB_MODE", raising=False)
        yield given
    assert given.unknown == [], "operations that the server does not speak"


@pytest.fixture
def folder(tmp_path):
    """Two recipes, three final seeds, two tuning trials each, one failure."""
    return run_folder(tmp_path / "run")
