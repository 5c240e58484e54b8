"""Is the W&B server there, does it know the key, and may the key write? Answered within five seconds."""

from __future__ import annotations

import base64
import configparser
import json
import netrc
import os
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trainoff.errors import UserError

DEFAULT_SERVER = "https://api.wandb.ai"
_SECONDS = 4.0
_SECONDS_BETWEEN_TRIES = 0.3
AGAIN = "run the same command again"
LATER = f"{AGAIN} later"

_VIEWER = "query Viewer { viewer { id entity username teams { edges { node { name } } } } }"
_READ_ONLY = (
    "query IsProjectReadOnly($entity: String!, $project: String!) "
    "{ project(entityName: $entity, name: $project) { readOnly } }"
)


@dataclass(frozen=True)
class Account:
    """Where runs go, with a key that the server knows.

    Args:
        server: The server's address.
        key: The API key. Never printed: ``repr`` leaves it out.
        entity: The user or team that the project belongs to.
        has_project: Whether the project is there.
    """

    server: str
    key: str
    entity: str
    has_project: bool = False

    def __repr__(self) -> str:
        return f"Account({self.server!r}, entity={self.entity!r})"

    def place(self, project: str) -> str:
        """Names the project among all servers."""
        return f"{urlsplit(self.server).netloc}/{self.entity}/{project}"


def server_address() -> str:
    """``WANDB_BASE_URL``, else what W&B's settings files say, else W&B's own server."""
    if given := os.environ.get("WANDB_BASE_URL"):
        return given.rstrip("/")
    config = os.environ.get("WANDB_CONFIG_DIR") or Path.home() / ".config" / "wandb"
    for path in (Path("wandb") / "settings", Path(config) / "settings"):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(path)
            found = parser.get("default", "base_url", fallback="")
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue
        if found:
            return found.rstrip("/")
    return DEFAULT_SERVER


def api_key(server: str) -> str:
    """The key of ``WANDB_API_KEY`` or of the netrc file that ``wandb login`` writes.

    Raises:
        UserError: Where there is none.
    """
    if given := os.environ.get("WANDB_API_KEY"):
        return given.strip()
    host = urlsplit(server).netloc
    own = os.environ.get("NETRC")
    for path in (Path(own),) if own else (Path.home() / ".netrc", Path.home() / "_netrc"):
        try:
            found = netrc.netrc(path).authenticators(host)
        except (OSError, netrc.NetrcParseError):
            continue
        if found is not None and found[2]:
            return found[2]
    raise UserError(f"no API key for {host}; run `wandb login`, or set WANDB_API_KEY", "wandb")


def check(project: str, entity: str | None = None, *, writes: bool = True) -> Account:
    """Ask the server who the key belongs to, and whether the project can be written.

    Args:
        project: The project's name; it need not exist.
        entity: Whose project; the account's default by default.
        writes: Whether it has to be writable.

    Raises:
        UserError: Without a key, with a wrong one, without rights, or where no right answer comes within five seconds.
    """
    server = server_address()
    key = api_key(server)
    found: list[Account | UserError] = []
    thread = threading.Thread(target=lambda: found.append(_asked(server, key, project, entity, writes)), daemon=True)
    thread.start()
    thread.join(_SECONDS + 0.5)  # looking up a name knows no time limit of its own
    if not found:
        raise UserError(f"does not answer within {_SECONDS:g} s; {LATER}", server)
    if isinstance(found[0], UserError):
        raise found[0]
    return found[0]


def _asked(server: str, key: str, project: str, entity: str | None, writes: bool) -> Account | UserError:
    try:
        viewer = (_ask(server, key, _VIEWER, {}) or {}).get("viewer")
        if not viewer:
            return _wrong_key(server)
        owner = entity or viewer.get("entity") or viewer.get("username") or ""
        found = (_ask(server, key, _READ_ONLY, {"entity": owner, "project": project}) or {}).get("project")
        account = Account(server, key, owner, has_project=bool(found))
        if not writes or (found and not found.get("readOnly")):
            return account
        if found:
            return UserError("the key gives no right to write to this project", f"{owner}/{project}")
        # A project that is not there is made, which takes rights to all that its owner has.
        teams = [edge["node"]["name"] for edge in (viewer.get("teams") or {}).get("edges", [])]
        known = {viewer.get("entity"), viewer.get("username"), *teams}
        if owner in known:
            return account
        names = ", ".join(sorted(filter(None, known)))
        return UserError(f"the key gives no right to write there; it does for {names}", f"entity {owner}")
    except UserError as error:
        return error


def _ask(server: str, key: str, query: str, variables: dict[str, Any], tries: int = 3) -> dict[str, Any] | None:
    body = json.dumps({"query": query, "variables": variables}).encode()
    token = base64.b64encode(f"api:{key}".encode()).decode()
    headers = {"Content-Type": "application/json", "Authorization": f"Basic {token}"}
    try:
        request = urllib.request.Request(f"{server}/graphql", body, headers)
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            data = json.loads(answer.read()).get("data")
            return data if isinstance(data, dict) else None
    except urllib.error.HTTPError as error:
        if tries > 1 and (error.code == 429 or error.code >= 500):  # one bad answer is no bad server
            time.sleep(_SECONDS_BETWEEN_TRIES)
            return _ask(server, key, query, variables, tries - 1)
        raise _refused(server, error.code) from None
    except TimeoutError:
        raise UserError(f"does not answer within {_SECONDS:g} s; {LATER}", server) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            raise UserError(f"does not answer within {_SECONDS:g} s; {LATER}", server) from None
        text = getattr(reason, "strerror", None) or type(reason).__name__
        raise UserError(f"cannot be reached ({text}); {LATER}, or give --offline", server) from None


def _refused(server: str, status: int) -> UserError:
    if status == 401:
        return _wrong_key(server)
    if status == 403:
        return UserError("the key gives no right to do that", server)
    if status == 429:
        return UserError(f"asks to slow down (status 429); {LATER}", server)
    return UserError(f"answers with status {status}; {LATER}", server)


def _wrong_key(server: str) -> UserError:
    return UserError("does not know the API key; run `wandb login --relogin`, or set WANDB_API_KEY", server)
