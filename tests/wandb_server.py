"""A server on loopback that speaks as much of Weights & Biases' protocol as its client, version 0.31, asks for.

GraphQL at ``/graphql``, a run's rows at ``/files/<entity>/<project>/<run>/file_stream``, files by PUT to the addresses
that it gives out. It keeps what it gets, and may be told to misbehave.
"""

# ruff: noqa: E501, N802 (answers are written as the protocol has them, and operations bear its names)

from __future__ import annotations

import http.server
import itertools
import json
import re
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

KEY = "0123456789abcdef0123456789abcdef01234567"
ENTITY = "a-team"
USER = "somebody"


@dataclass
class StoredRun:
    """A run as the server holds it.

    Args:
        lines: Of each of the run's streams the lines by their offset.
        rewritten: Lines that came again with other content.
        files: Content of the uploaded files.
    """

    name: str
    display_name: str = ""
    group: str = ""
    job_type: str = ""
    notes: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    state: str = "running"
    lines: dict[str, dict[int, str]] = field(default_factory=dict)
    rewritten: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def history(self) -> list[dict[str, Any]]:
        """The logged rows in order, without the client's own keys but ``_step``."""
        rows = [json.loads(line) for _, line in sorted(self.lines.get("wandb-history.jsonl", {}).items())]
        return [{k: v for k, v in row.items() if not k.startswith("_") or k == "_step"} for row in rows]

    @property
    def summary(self) -> dict[str, Any]:
        """The summary without the client's own keys."""
        return {key: value for key, value in json.loads(self.whole_summary).items() if not key.startswith("_")}

    @property
    def whole_summary(self) -> str:
        """The summary as it was sent."""
        kept = self.lines.get("wandb-summary.json", {})
        return kept[max(kept)] if kept else "{}"

    @property
    def values(self) -> dict[str, Any]:
        """The config as it was given."""
        return {key: entry["value"] for key, entry in self.config.items() if key != "_wandb"}


@dataclass
class Server:
    """What the server has, how it behaves, and what it was asked.

    Args:
        refuse: A status in place of every answer; None for none.
        refuse_every: Each so-manieth request is refused; 0 for none.
        refuse_status: With which status.
        refuse_from: Requests from this one on are refused with status 500; None for none.
        hang_from: Requests from this one on are never answered; None for none.
        denies_runs: Whether runs are refused for want of rights, though the project passes for writable.
        silent: Whether it accepts connections and never answers.
        read_only: Whether nobody may write to the projects.
        requests: Method, path and GraphQL operation of each request.
        projects: Names of those that exist.
        runs: By project, then by name.
        deleted: Names of deleted runs, which are refused for good.
        artifacts: In order; each with its input, state, manifest and files.
        views: Reports by id.
        unknown: GraphQL operations that it does not speak.
        authorised: Whether each request with an Authorization header bore the right key.
    """

    refuse: int | None = None
    refuse_every: int = 0
    refuse_status: int = 500
    refuse_from: int | None = None
    hang_from: int | None = None
    denies_runs: bool = False
    silent: bool = False
    read_only: bool = False
    requests: list[str] = field(default_factory=list)
    projects: set[str] = field(default_factory=set)
    runs: dict[str, dict[str, StoredRun]] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    views: dict[str, dict[str, Any]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    url: str = ""
    lock: Any = field(default_factory=threading.RLock)

    def delete_run(self, project: str, name: str) -> None:
        """As somebody does in the browser."""
        del self.runs[project][name]
        self.deleted.add(name)

    def run_of(self, project: str, trial: str) -> StoredRun:
        """The one run of a trial."""
        found = [run for run in self.runs[project].values() if run.values.get("id") == trial]
        assert len(found) == 1, [run.name for run in found]
        return found[0]


class Denied(Exception):
    """An error with a status of its own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Operations:
    """What each GraphQL operation does."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.count = itertools.count(1)

    def answer(self, name: str, query: str, variables: dict[str, Any]) -> Any:
        """The ``data`` of an operation."""
        method = getattr(self, name, None)
        if method is None or name.startswith("_"):
            self.server.unknown.append(f"{name}: {query}")
            raise Denied(400, f"unknown operation {name}")
        return method(query, variables)

    def Viewer(self, query: str, given: dict[str, Any]) -> Any:
        teams = {"edges": [{"node": {"name": name}} for name in (USER, ENTITY)]}
        return {"viewer": {"id": "u1", "entity": ENTITY, "username": USER, "email": "somebody@example.org", "name": USER,
                           "admin": False, "flags": "{}", "deletedAt": None, "apiKeys": {"edges": []}, "teams": teams}}  # fmt: skip

    GetViewer = GetDefaultEntity = Viewer

    def ArtifactType(self, query: str, given: dict[str, Any]) -> Any:
        return {"project": {"artifact": None}}

    def ServerFeaturesQuery(self, query: str, given: dict[str, Any]) -> Any:
        return {"serverInfo": {"features": []}}

    def OrganizationCoreWeaveOrganizationID(self, query: str, given: dict[str, Any]) -> Any:
        return {"entity": {"organization": None}}

    def XXHashDigestsEnabled(self, query: str, given: dict[str, Any]) -> Any:
        return {"entity": {"xxhashDigestsEnabled": False}}

    def FetchArtifactDigestAlgorithm(self, query: str, given: dict[str, Any]) -> Any:
        return {"project": {"artifactType": None}}

    def CreateProject(self, query: str, given: dict[str, Any]) -> Any:
        made = given["input"]
        self._writable(made.get("entityName"))
        self.server.projects.add(made["name"])
        project = {
            "id": made["name"],
            "name": made["name"],
            "entityName": ENTITY,
            "description": "",
            "access": "PRIVATE",
        }
        return {"result": {"project": project, "model": project, "inserted": True}}

    def GetProjects(self, query: str, given: dict[str, Any]) -> Any:
        edges = [{"node": self._project(name), "cursor": name} for name in sorted(self.server.projects)]
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        return {"models": {"pageInfo": page, "edges": edges}}

    def GetProject(self, query: str, given: dict[str, Any]) -> Any:
        name = given["name"]
        return {"project": self._project(name) if name in self.server.projects else None}

    def IsProjectReadOnly(self, query: str, given: dict[str, Any]) -> Any:
        return {"project": {"readOnly": self.server.read_only} if given["project"] in self.server.projects else None}

    def ProjectInternalId(self, query: str, given: dict[str, Any]) -> Any:
        name = given["projectName"]
        known = name in self.server.projects
        return {"project": {"id": name, "internalId": f"UHJvamVjdEludGVybmFsSWQ6{name}"} if known else None}

    def _project(self, name: str) -> dict[str, Any]:
        return {"__typename": "Project", "id": name, "name": name, "entityName": ENTITY, "createdAt": "2026-01-01",
                "isBenchmark": False, "user": None}  # fmt: skip

    def _writable(self, entity: str | None) -> None:
        if self.server.read_only or entity not in (None, "", ENTITY, USER):
            raise Denied(403, "permission denied")

    # --- runs ---

    def UpsertBucket(self, query: str, given: dict[str, Any]) -> Any:
        self._writable(given.get("entity"))
        if given.get("id"):  # a change of a run that is there
            return self._change(given)
        name, project = given["name"], given["project"]
        if self.server.denies_runs:
            raise Denied(403, "permission denied")
        if name in self.server.deleted:
            raise Denied(409, f"run {name} was previously created and deleted; try a new run name")
        self.server.projects.add(project)
        runs = self.server.runs.setdefault(project, {})
        inserted = name not in runs
        run = runs.setdefault(name, StoredRun(name))
        run.state = "running"
        for key, attribute in (("displayName", "display_name"), ("groupName", "group"), ("jobType", "job_type"),
                               ("notes", "notes"), ("tags", "tags")):  # fmt: skip
            if given.get(key):
                setattr(run, attribute, given[key])
        if given.get("config"):
            run.config = json.loads(given["config"])
        if given.get("summaryMetrics"):
            run.lines["wandb-summary.json"] = {0: given["summaryMetrics"]}
        bucket = {"id": f"id-{name}", "name": name, "displayName": run.display_name, "description": "", "sweepName": None,
                  "config": json.dumps(run.config), "project": {"id": project, "name": project, "entity": {
                      "id": "e1", "name": ENTITY}}, "historyLineCount": self._count(run, "history.jsonl")}  # fmt: skip
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _change(self, given: dict[str, Any]) -> Any:
        found = [
            (project, run)
            for project, runs in self.server.runs.items()
            for run in runs.values()
            if f"id-{run.name}" == given["id"]
        ]
        project, run = found[0]
        if given.get("config"):
            run.config = json.loads(given["config"])
        if given.get("tags"):
            run.tags = given["tags"]
        return {"upsertBucket": {"bucket": self._run(project, run), "inserted": False}}

    def RunResumeStatus(self, query: str, given: dict[str, Any]) -> Any:
        run = self.server.runs.get(given["project"], {}).get(given["name"])
        if given["project"] not in self.server.projects:
            return {"model": None}
        bucket = None
        if run is not None:
            tails = {
                kind: sorted(run.lines.get(f"wandb-{kind}.jsonl", {}).items())[-1:] for kind in ("history", "events")
            }
            bucket = {
                "id": f"id-{run.name}", "name": run.name, "displayName": run.display_name, "logLineCount": 0,
                "summaryMetrics": run.whole_summary, "historyLineCount": self._count(run, "history.jsonl"),
                "eventsLineCount": self._count(run, "events.jsonl"), "config": json.dumps(run.config), "tags": run.tags,
                "notes": run.notes, "wandbConfig": json.dumps(run.config.get("_wandb", {}).get("value", {})),
                **{f"{kind}Tail": json.dumps([line for _, line in tail]) for kind, tail in tails.items()},
            }  # fmt: skip
        return {"model": {"id": given["project"], "name": given["project"], "entity": {"id": "e1", "name": ENTITY},
                          "bucket": bucket}}  # fmt: skip

    def _count(self, run: StoredRun, stream: str) -> int:
        return len(run.lines.get(f"wandb-{stream}", {}))

    def Runs(self, query: str, given: dict[str, Any]) -> Any:
        if given["project"] not in self.server.projects:
            return {"project": None}
        runs = list(self.server.runs.get(given["project"], {}).values())
        filters = json.loads(given.get("filters") or "{}")
        wanted = filters.get("tags", {}).get("$in") if isinstance(filters.get("tags"), dict) else None
        runs = [run for run in runs if wanted is None or set(wanted) & set(run.tags)]
        start, size = int(given.get("cursor") or 0), int(given.get("perPage") or 50)
        page = runs[start : start + size]
        edges = [{"node": self._run(given["project"], run), "cursor": str(start + index + 1)}
                 for index, run in enumerate(page)]  # fmt: skip
        more = start + size < len(runs)
        found = {
            "edges": edges,
            "pageInfo": {"endCursor": edges[-1]["cursor"] if edges else None, "hasNextPage": more},
        }
        return {
            "project": {"internalId": "1", "runCount": len(runs), "readOnly": self.server.read_only, "runs": found}
        }

    def Run(self, query: str, given: dict[str, Any]) -> Any:
        run = self.server.runs.get(given["project"], {}).get(given["name"])
        return {"project": {"internalId": "1", "run": None if run is None else self._run(given["project"], run)}}

    def RunFiles(self, query: str, given: dict[str, Any]) -> Any:
        run = self.server.runs.get(given["project"], {}).get(given["name"])
        if run is None:
            return {"project": {"internalId": "1", "run": None}}
        wanted = given.get("fileNames") or sorted(run.files)
        edges = []
        for name in (name for name in wanted if name in run.files):
            url = f"{self.server.url}/storage/{given['project']}/{run.name}/{urllib.parse.quote(name)}"
            edges.append({"cursor": name, "node": {
                "id": f"f-{name}", "name": name, "url": url, "directUrl": url, "sizeBytes": len(run.files[name]),
                "mimetype": "application/json", "updatedAt": "2026-01-01", "md5": ""}})  # fmt: skip
        files = {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}
        return {"project": {"internalId": "1", "run": {"fileCount": len(edges), "files": files}}}

    def _run(self, project: str, run: StoredRun) -> dict[str, Any]:
        return {
            "id": f"id-{run.name}", "projectId": 1, "tags": run.tags, "name": run.name, "group": run.group,
            "displayName": run.display_name, "sweepName": None, "state": run.state, "config": json.dumps(run.config),
            "jobType": run.job_type, "commit": None, "readOnly": False, "createdAt": "2026-01-01T00:00:00Z",
            "heartbeatAt": "2026-01-01T00:00:00Z", "description": "", "notes": run.notes, "systemMetrics": "{}",
            "summaryMetrics": run.whole_summary, "historyLineCount": self._count(run, "history.jsonl"),
            "historyKeys": None, "user": {"name": USER, "username": USER},
        }  # fmt: skip

    def CreateRunFiles(self, query: str, given: dict[str, Any]) -> Any:
        files = [{"name": name, "uploadUrl": f"{self.server.url}/storage/{given['project']}/{given['run']}/"
                  f"{urllib.parse.quote(name)}"} for name in given["files"]]  # fmt: skip
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}

    # --- artifacts ---

    def CreateArtifact(self, query: str, given: dict[str, Any]) -> Any:
        made = given["input"]
        names = made.get("artifactCollectionNames") or [made.get("artifactCollectionName")]
        same = [each for each in self.server.artifacts if each["digest"] == made["digest"] and each["names"] == names]
        if same:
            artifact = same[-1]
        else:
            artifact = {"id": f"artifact-{next(self.count)}", "digest": made["digest"], "state": "PENDING",
                        "names": names, "input": made, "files": {}}  # fmt: skip
            self.server.artifacts.append(artifact)
        latest = [each for each in self.server.artifacts if each["state"] == "COMMITTED" and each["names"] == names]
        sequence = {"id": "s1", "latestArtifact": {"id": latest[-1]["id"]} if latest else None}
        return {"createArtifact": {"artifact": {"id": artifact["id"], "state": artifact["state"],
                                                "artifactSequence": sequence}}}  # fmt: skip

    def CreateArtifactManifest(self, query: str, given: dict[str, Any]) -> Any:
        url = f"{self.server.url}/artifacts/{given['artifactID']}/wandb_manifest.json"
        return {"createArtifactManifest": {"artifactManifest": {"id": f"m-{given['artifactID']}", "file": {
            "id": "mf", "uploadUrl": url, "uploadHeaders": []}}}}  # fmt: skip

    def UpdateArtifactManifest(self, query: str, given: dict[str, Any]) -> Any:
        artifact = given["artifactManifestID"].removeprefix("m-")
        url = f"{self.server.url}/artifacts/{artifact}/wandb_manifest.json"
        return {"updateArtifactManifest": {"artifactManifest": {"id": given["artifactManifestID"], "file": {
            "id": "mf", "uploadUrl": url, "uploadHeaders": []}}}}  # fmt: skip

    def CreateArtifactFiles(self, query: str, given: dict[str, Any]) -> Any:
        nodes = []
        for each in given["input"]["artifactFiles"]:
            url = f"{self.server.url}/artifacts/{each['artifactID']}/{urllib.parse.quote(each['name'])}"
            nodes.append({"node": {"storagePath": f"store/{each['name']}", "uploadUrl": url, "uploadHeaders": [],
                                   "uploadMultipartUrls": None, "artifact": {"id": each["artifactID"]}}})  # fmt: skip
        return {"createArtifactFiles": {"files": {"edges": nodes}}}

    def CommitArtifact(self, query: str, given: dict[str, Any]) -> Any:
        artifact = next(each for each in self.server.artifacts if each["id"] == given["artifactID"])
        artifact["state"] = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": artifact["id"], "digest": artifact["digest"]}}}

    # --- reports ---

    def upsertView(self, query: str, given: dict[str, Any]) -> Any:
        self._writable(given.get("entityName"))
        identity = given.get("id") or f"Vmlldzo{next(self.count)}"
        inserted = identity not in self.server.views
        view = {
            "id": identity, "type": given["type"], "name": given["name"], "displayName": given["displayName"],
            "description": given["description"], "spec": given["spec"], "createdAt": "2026-01-01T00:00:00Z",
            "updatedAt": "2026-01-01T00:00:00Z",
            "project": {"id": given["projectName"], "name": given["projectName"], "entityName": ENTITY},
        }  # fmt: skip
        self.server.views[identity] = view
        return {"upsertView": {"view": view, "inserted": inserted}}

    def SpecificReport(self, query: str, given: dict[str, Any]) -> Any:
        return {"view": self.server.views.get(given["reportId"])}


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: Server
    operations: Operations

    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal."""

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def _handle(self) -> None:
        state = self.server_state
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        if state.silent or (state.hang_from is not None and len(state.requests) >= state.hang_from):
            time.sleep(30)
            self.close_connection = True
            return
        with state.lock:
            name = ""
            if path == "/graphql":
                asked = json.loads(body)
                name = asked.get("operationName") or re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])[1]  # type: ignore[index]
            state.requests.append(f"{self.command} {path} {name}".rstrip())
            state.bodies.append(body)
            number = len(state.requests)
            refused = state.refuse
            if state.refuse_every and number % state.refuse_every == 0:
                refused = state.refuse_status
            if state.refuse_from is not None and number >= state.refuse_from:
                refused = 500
            if refused is not None:
                headers = {"Retry-After": "1"} if refused == 429 else {}
                self._send(refused, b'{"errors": [{"message": "refused"}]}', headers)
                return
            if not path.startswith(("/storage/", "/artifacts/")) and not self._is_authorised():
                self._send(401, b'{"errors": [{"message": "user is not logged in"}]}')
                return
            try:
                content = self._content(path, body, name)
            except Denied as error:
                document = {"data": None, "errors": [{"message": str(error), "path": [name]}]}
                self._send(error.status, json.dumps(document).encode())
                return
        self._send(200, content)

    def _is_authorised(self) -> bool:
        import base64

        given = self.headers.get("Authorization", "")
        if not given.startswith("Basic "):
            return False
        return base64.b64decode(given[6:]).decode().partition(":")[2] == KEY

    def _content(self, path: str, body: bytes, name: str) -> bytes:
        state = self.server_state
        if path == "/graphql":
            asked = json.loads(body)
            data = self.operations.answer(name, asked["query"], asked.get("variables") or {})
            return json.dumps({"data": data}).encode()
        parts = path.strip("/").split("/")
        if parts[0] == "files" and parts[-1] == "file_stream":
            self._stream(state.runs[parts[2]][parts[3]], json.loads(body))
            return b'{"exitcode": null, "limits": {}}'
        if parts[0] == "storage":
            run, file = state.runs[parts[1]][parts[2]], "/".join(parts[3:])
            if self.command == "GET":
                return run.files[file]
            run.files[file] = body
            return b""
        if parts[0] == "artifacts" and self.command == "PUT":
            artifact = next(each for each in state.artifacts if each["id"] == parts[1])
            artifact["files"]["/".join(parts[2:])] = body
            return b""
        raise Denied(404, f"nothing at {path}")

    def _stream(self, run: StoredRun, sent: dict[str, Any]) -> None:
        for stream, chunk in (sent.get("files") or {}).items():
            lines = run.lines.setdefault(stream, {})
            for index, line in enumerate(chunk["content"], chunk["offset"]):
                known = lines.get(index)
                if stream.endswith("history.jsonl") and known is not None and known != line:
                    run.rewritten.append(line)
                lines[index] = line
        if sent.get("complete"):
            run.state = "finished" if sent.get("exitcode") == 0 else "failed"

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        try:
            self.send_response(status)
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


class _Listening(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error."""


@contextmanager
def serving(server: Server) -> Iterator[str]:
    """The server's address, while it runs."""
    handler = type("Handler", (_Handler,), {"server_state": server, "operations": Operations(server)})
    listening = _Listening(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        server.url = f"http://127.0.0.1:{listening.server_address[1]}"
        yield server.url
    finally:
        listening.shutdown()
        listening.server_close()
