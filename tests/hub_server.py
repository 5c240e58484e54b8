"""A server on loopback that speaks as much of the Hugging Face hub's protocol as loading a data set asks for.

It serves repositories of files, as the hub keeps data sets: ``data/train-00000-of-00001.parquet`` and so on. It may
be told to misbehave.
"""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SILENCE_SECONDS = 30  # longer than anybody waits


@dataclass
class Hub:
    """What the server has, how it behaves, and what it was asked.

    Args:
        repositories: The files of each data set, by its name.
        refuse: The status in place of every answer about a data set, and the hub's error code; None for none.
        gated: Whether it lists and describes its data sets, but gives their files to nobody who has not asked.
        break_after: A download's bytes before the connection is cut; None for whole downloads.
        silent_after: A download's bytes before nothing more comes, the connection open; None for whole downloads.
        silent: Whether it accepts connections and never answers.
        requests: Method and path of each request.
    """

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refuse: tuple[int, str] | None = None
    gated: bool = False
    break_after: int | None = None
    silent_after: int | None = None
    silent: bool = False
    requests: list[str] = field(default_factory=list)
    url: str = ""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        self._answer(body)

    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal."""

    def _answer(self, body: dict[str, Any] | None = None) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        if self.hub.silent:
            time.sleep(SILENCE_SECONDS)
            return
        if "/datasets/" not in path:
            self._send(404, b"")
            return
        if self.hub.refuse is not None:
            status, code = self.hub.refuse
            self._send(status, b'{"error": "refused"}', {"X-Error-Code": code} if code else {})
            return
        parts = path.removeprefix("/api").removeprefix("/datasets/").split("/")
        name, rest = "/".join(parts[:2]), parts[2:]
        if name not in self.hub.repositories:
            self._send(404, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"})
        elif path.startswith("/api/"):
            self._describe(name, rest, body or {})
        elif self.hub.gated:
            message = f"Access to dataset {name} is restricted and you are not in the authorized list."
            self._send(403, message.encode(), {"X-Error-Code": "GatedRepo", "X-Error-Message": message})
        else:
            self._serve(self.hub.repositories[name], "/".join(rest[2:]))  # resolve / revision / file

    def _describe(self, name: str, rest: list[str], body: dict[str, Any]) -> None:
        files = self.hub.repositories[name]
        if rest[:1] == ["tree"]:
            self._list(files, "/".join(rest[2:]))
        elif rest[:1] == ["paths-info"]:
            wanted = body.get("paths", [])
            self._send_json([_entry(path, content) for path, content in files.items() if path in wanted])
        elif rest in ([], ["revision", "main"], ["revision", COMMIT]):
            siblings = [{"rfilename": path} for path in files]
            gated = "manual" if self.hub.gated else False
            self._send_json({"_id": "0", "id": name, "sha": COMMIT, "siblings": siblings, "private": False, "tags": [],
                             "gated": gated, "disabled": False, "downloads": 0, "likes": 0})  # fmt: skip
        else:
            self._send(404, b"")

    def _list(self, files: dict[str, bytes], folder: str) -> None:
        prefix = f"{folder}/" if folder else ""
        inside = {path: content for path, content in files.items() if path.startswith(prefix)}
        if not inside:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        recursive = "recursive=true" in self.path.lower()
        deep = {path.removeprefix(prefix).partition("/")[0] for path in inside if "/" in path.removeprefix(prefix)}
        entries = [{"type": "directory", "path": prefix + name, "size": 0, "oid": "0"} for name in sorted(deep)]
        for path, content in inside.items():
            if recursive or "/" not in path.removeprefix(prefix):
                entries.append(_entry(path, content))
        self._send_json(entries)

    def _serve(self, files: dict[str, bytes], path: str) -> None:
        content = files.get(path)
        if content is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            return
        headers = {"ETag": f'"{_digest(content)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        start = 0
        if (given := self.headers.get("Range")) is not None:
            start = int(given.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(206 if given else 200, content[start:], headers, is_download=True)

    def _send_json(self, document: Any) -> None:
        self._send(200, json.dumps(document).encode(), {"Content-Type": "application/json", "X-Repo-Commit": COMMIT})

    def _send(
        self, status: int, content: bytes, headers: dict[str, str] | None = None, is_download: bool = False
    ) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        limits = [
            limit for limit in (self.hub.break_after, self.hub.silent_after) if limit is not None and is_download
        ]
        if not limits or len(content) <= min(limits):
            self.wfile.write(content)
            return
        self.wfile.write(content[: min(limits)])
        self.wfile.flush()
        if self.hub.silent_after is not None:
            time.sleep(SILENCE_SECONDS)
        self.connection.shutdown(2)
        self.close_connection = True


def card(splits: dict[str, str], config: str = "default") -> bytes:
    """A README that says which files are which split, as those of converted data sets do."""
    lines = ["---", "configs:", f"- config_name: {config}", "  data_files:"]
    for split, pattern in splits.items():
        lines += [f"  - split: {split}", f"    path: {pattern}"]
    return "\n".join([*lines, "---", ""]).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def _entry(path: str, content: bytes) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": len(content), "oid": _digest(content)}


@contextmanager
def serving(hub: Hub) -> Iterator[str]:
    """The server's address, while it runs."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield hub.url
    finally:
        server.shutdown()
        server.server_close()


def parquet_of(rows: Any) -> bytes:
    """A ``datasets.Dataset`` as the hub keeps it, its features in the file's metadata."""
    buffer = io.BytesIO()
    rows.to_parquet(buffer)
    return buffer.getvalue()
