"""``trainoff publish``: a run folder's records as W&B runs, its board as an artifact, and a Report on it.

What is up is noted as it arrives, so the same command goes on where it was stopped, and changes nothing where nothing
is new.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from trainoff.benchmarks.secret_scan import without_values
from trainoff.benchmarks.store import RunFolder, write_atomically
from trainoff.errors import UserError
from trainoff.leaderboards.numbers import count_text
from trainoff.leaderboards.publishing.jobs import (
    Answer,
    FoundRun,
    ListRuns,
    MakeProject,
    SaveReport,
    Setup,
    Supersede,
    UploadArtifact,
    UploadRun,
)
from trainoff.leaderboards.publishing.ledger import Ledger
from trainoff.leaderboards.publishing.material import Material, Wanted, board_files, digest_of
from trainoff.leaderboards.publishing.run_content import content_of
from trainoff.leaderboards.publishing.server_check import AGAIN, Account, check
from trainoff.leaderboards.publishing.wandb_client import STALL_SECONDS, WandbClient, need_wandb
from trainoff.leaderboards.report.page import report_page

REPORT_PAGE = "report.html"
_LOG = "wandb-client.log"
AT_A_TIME = 24
_FINISHED = ("finished", "failed")
_MOST_ERRORS = 5  # in a row: the server is not well
_PATIENCE = (0.0, 1.0, 3.0, 10.0)  # seconds before each look at what the server has

Watch = Callable[[int, int], None]


@dataclass
class Published:
    """What came of it.

    Args:
        uploaded: Runs that were sent.
        found: Runs that were up already.
        address: The Report's; or the local page's path.
        has_changed: Whether the Report or the board's artifact is new.
        notes: What the user should know.
        folder: Where offline runs were written.
    """

    uploaded: int = 0
    found: int = 0
    address: str = ""
    has_changed: bool = False
    notes: list[str] = field(default_factory=list)
    folder: Path | None = None


def publish(
    folder: Path,
    project: str,
    entity: str | None = None,
    watch: Watch = lambda done, total: None,
    stall_seconds: float = STALL_SECONDS,
    with_report: bool = True,
) -> Published:
    """Send what is not up yet.

    Args:
        folder: A run folder. Nothing in it changes but ``wandb.jsonl`` and ``report.html``.
        project: The W&B project; made where it is missing.
        entity: Whose; the account's default by default.
        watch: Called with runs done and runs in all.
        stall_seconds: How long the server may be silent.
        with_report: Whether the board's artifact and the Report are made too.

    Raises:
        UserError: Where the server cannot be used, or not all could be sent; the same call goes on later.
    """
    need_wandb(report=with_report)
    if not folder.is_dir():
        raise UserError("there is no such run folder", str(folder))
    account = check(project, entity)  # before ten thousand records are read: its answer is not to wait for them
    material = Material.read(folder)
    with RunFolder(folder), tempfile.TemporaryDirectory(prefix="trainoff-wandb-") as scratch:
        setup = Setup(project, account.entity, scratch)
        log = folder / _LOG
        try:
            with WandbClient(setup, account.server, account.key, log, stall_seconds) as client:
                publishing = Publishing(material, account, project, client, watch)
                publishing.send_runs()
                if with_report:
                    publishing.send_report()
        except BaseException:
            _keep_log(log, account.key)
            raise
        log.unlink(missing_ok=True)
        return publishing.done


def _keep_log(log: Path, key: str) -> None:
    """What the client said before something went wrong, without secrets; nothing where it said nothing."""
    said = log.read_text(errors="replace") if log.exists() else ""
    if said.strip():
        log.write_text(without_values(said.replace(key, "…")))
    else:
        log.unlink(missing_ok=True)


class Publishing:
    """One call of :func:`publish`.

    Args:
        material: The run folder's.
        account: Where it goes.
        project: The project.
        client: Running.
        watch: Called with runs done and runs in all.
    """

    def __init__(self, material: Material, account: Account, project: str, client: WandbClient, watch: Watch) -> None:
        self.material = material
        self.account = account
        self.project = project
        self.client = client
        self.watch = watch
        self.ledger = Ledger(material.folder, account.place(project))
        self.done = Published()
        self.wanted: dict[str, Wanted] = {}

    def send_report(self) -> None:
        """The board as an artifact, and the Report on it and on the runs."""
        self._artifact()
        self._report()

    def send_runs(self) -> None:
        """The runs that are not up, or not whole."""
        if not self.account.has_project:  # to change one that is there takes more rights than to add runs to it
            self.client.ask(MakeProject())
        self.wanted = {key: Wanted.of(record) for key, record in self.material.records.items()}
        self.done.notes += self.material.note
        missing = self._missing(self._there())
        self.done.found = len(self.wanted) - len(missing)
        self._upload(missing)
        self._verify(missing)

    def _there(self) -> dict[str, FoundRun]:
        return {run.id: run for run in self.client.ask(ListRuns()).runs}

    def _missing(self, there: dict[str, FoundRun]) -> list[str]:
        """The trials whose run is not up, or not as it should be."""
        missing = []
        for key, wanted in self.wanted.items():
            line = self.ledger.find("run", key)
            if line is not None and line.digest and line.id not in there:
                self.ledger.deleted("run", key)  # it was up: somebody deleted it
                line = None
            if line is not None and line.digest and line.digest != wanted.digest:
                # The trial was trained again. A run's rows can only be added to, so the new ones make a new run.
                self.client.ask(Supersede(line.id))
                self.ledger.deleted("run", key)
                self.done.notes.append(f"{wanted.name}: trained again, so it is a new run; {line.id} is superseded")
                line = None
            if line is None or not line.digest or not _is_whole(there.get(line.id), wanted):
                missing.append(key)
        return missing

    def _upload(self, keys: list[str]) -> None:
        waiting, pending, errors = list(reversed(keys)), 0, 0
        last: Answer | None = None
        self.watch(0, len(keys))
        while waiting or pending:
            while waiting and pending < AT_A_TIME:
                key = waiting.pop()
                content = content_of(self.material.records[key])
                self.client.send(UploadRun(key, self.ledger.run_id(key), content))
                pending += 1
            answer = self.client.next_answer()
            pending -= 1
            if answer.problem == "deleted":
                self.ledger.deleted("run", answer.key)
                waiting.append(answer.key)
            elif answer.problem == "denied":
                raise UserError(
                    "the key gives no right to write to this project", f"{self.account.entity}/{self.project}"
                )
            elif answer.problem:
                errors, last = errors + 1, answer
                if errors >= _MOST_ERRORS:
                    check(self.project, self.account.entity)  # says what is the matter, where it is the server
                    break
            else:
                errors = 0
                # Noted at once, so that whatever ends this call, the next one need not send it again.
                self.ledger.arrived("run", answer.key, answer.id, self.wanted[answer.key].digest)
                self.done.uploaded += 1
                self.watch(self.done.uploaded, len(keys))
        if last is not None:
            rest = f"{count_text(len(keys) - self.done.uploaded, 'run')} of {len(keys):,}"
            raise UserError(f"{rest} could not be sent ({last.text}); {AGAIN}", self.account.server)

    def _verify(self, keys: list[str]) -> None:
        """Ask the server what it has: the client itself cannot know. A server may take seconds to count."""
        short = keys
        for seconds in _PATIENCE:
            if not short:
                return
            time.sleep(seconds)
            there = self._there()
            short = [key for key in short if not _is_whole(there.get(self.ledger.run_id(key)), self.wanted[key])]
        if short:
            raise UserError(f"{count_text(len(short), 'run')} did not arrive whole; {AGAIN}", self.account.server)

    def _artifact(self) -> None:
        name = self.material.name
        with tempfile.TemporaryDirectory(prefix="trainoff-board-") as place:
            files = board_files(self.material, Path(place))
            digest = digest_of(files)
            line = self.ledger.find("artifact", name)
            if line is not None and line.digest == digest:
                return
            answer = self._with_id("artifact", name, files)
        self.ledger.arrived("artifact", name, answer.id, digest)
        self.done.has_changed = True

    def _with_id(self, kind: str, name: str, files: dict[str, str]) -> Answer:
        """Upload under the id known, or a new one where that was deleted."""
        for _ in range(2):
            answer: Answer | None = None
            self.client.send(UploadArtifact(name, self.ledger.run_id(f"board:{name}"), files))
            answer = self.client.next_answer()
            if answer.problem != "deleted":
                break
            self.ledger.deleted("run", f"board:{name}")
        assert answer is not None
        if answer.problem:
            raise UserError(
                f"the board could not be sent ({answer.text}); run the same command again", self.account.server
            )
        return answer

    def _report(self) -> None:
        report = self.material.report()
        write_atomically(self.material.folder / REPORT_PAGE, report_page(report).encode())
        line = self.ledger.find("report")
        answer = self.client.ask(SaveReport(report, line.id if line is not None else "",
                                            is_known=line is not None and line.digest == report.digest))  # fmt: skip
        self.done.has_changed |= line is None or answer.id != line.id or line.digest != report.digest
        self.ledger.arrived("report", "", answer.id, report.digest)
        self.done.address = answer.address


def _is_whole(run: FoundRun | None, wanted: Wanted) -> bool:
    return run is not None and run.state in _FINISHED and run.rows >= wanted.rows
