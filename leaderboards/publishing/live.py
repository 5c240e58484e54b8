"""``trainoff run --wandb``: each trial is a W&B run while it trains. The training only writes rows to a file."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from trainoff.benchmarks.record import Record
from trainoff.errors import UserError
from trainoff.leaderboards.publishing.jobs import BeginLive, EndLive, Setup, Supersede, UploadRun
from trainoff.leaderboards.publishing.ledger import Ledger
from trainoff.leaderboards.publishing.run_content import begun_content, content_of
from trainoff.leaderboards.publishing.server_check import Account
from trainoff.leaderboards.publishing.wandb_client import Stalled, WandbClient

if TYPE_CHECKING:
    from trainoff.benchmarks.trial import Trial

_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_AT_END = 20.0  # without an answer; what is not up by then is sent from the records


class LiveRuns:
    """Sends trials while they train; to be entered. No method raises or waits for the server.

    Args:
        folder: The run folder, which the caller has locked.
        project: Where the runs go.
        account: Whose.
    """

    def __init__(self, folder: Path, project: str, account: Account) -> None:
        self._place = account.place(project)
        self._folder = folder
        self._scratch = Path(tempfile.mkdtemp(prefix="trainoff-live-"))
        self._spools = self._scratch / "rows"
        self._spools.mkdir()
        setup = Setup(project, account.entity, str(self._scratch))
        self._client = WandbClient(setup, account.server, account.key, self._scratch / "client.log")
        self._ledger: Ledger | None = None
        self._trials: dict[str, tuple[str, Trial]] = {}  # by spool's name: those that may start
        self._begun: dict[str, str] = {}  # trial -> its job's key
        self._pending: set[str] = set()
        self._sent: dict[str, tuple[str, str]] = {}  # by job's key: the trial, and the digest of what was sent
        self._lock = threading.Lock()
        self._is_dead = threading.Event()
        self._is_over = threading.Event()
        self._count = 0
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> LiveRuns:
        self._client.__enter__()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._is_over.set()
            self._thread.join()
        else:
            self._is_dead.set()
        self._client.__exit__(kind, error, traceback)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def begin(self, trial: Trial) -> str:
        """Where the trial's rows go; its run begins with the first of them."""
        with self._lock:
            self._count += 1
            name = f"{trial.id}-{self._count}.jsonl"
            self._trials[name] = (f"{trial.id}-{self._count}", trial)
        return str(self._spools / name)

    def end(self, record: Record) -> None:
        """Send what the record says; the record is on disk already."""
        if self._is_dead.is_set():
            return
        with contextlib.suppress(UserError), self._lock:  # whatever fails here is sent after the run
            content = None if record.status == "interrupted" else content_of(record)
            key = self._begun.pop(record.trial.id, None)
            for name in [name for name, (_, trial) in self._trials.items() if trial.id == record.trial.id]:
                del self._trials[name]
            if key is None:  # it ended before its first rows were seen
                if content is None:
                    return
                key = record.trial.id
                self._pending.add(key)
                self._client.send(UploadRun(key, self._run_id(record.trial.id), content))
            else:
                self._client.send(EndLive(key, content))
            if content is not None:
                self._sent[key] = (record.trial.id, content.digest)

    def _run_id(self, trial: str) -> str:
        if self._ledger is None:
            self._ledger = Ledger(self._folder, self._place)
        line = self._ledger.find("run", trial)
        if line is not None and line.digest:  # it is up from an earlier training, to which no rows are to be added
            self._client.send(Supersede(line.id))
            self._ledger.deleted("run", trial)
        return self._ledger.run_id(trial)

    def _look(self) -> None:
        """Begin the runs whose first rows are there, and hear of those that are up, until all is over."""
        silent = 0.0
        while not self._is_dead.is_set():
            try:
                if not self._is_over.is_set():
                    self._begin_new()
                answer = self._client.next_answer(_SECONDS_BETWEEN_LOOKS)
                with self._lock:
                    self._pending.discard(answer.key)
                    trial, digest = self._sent.pop(answer.key, ("", ""))
                    if trial and not answer.problem and self._ledger is not None:
                        self._ledger.arrived("run", trial, answer.id, digest)
                silent = 0.0
            except Stalled:
                silent += _SECONDS_BETWEEN_LOOKS
            except UserError:  # the client ended, or the ledger cannot be written
                self._is_dead.set()
            if self._is_over.is_set() and (not self._pending or silent >= _SECONDS_AT_END):
                if self._pending:
                    self._client.kill()
                return

    def _begin_new(self) -> None:
        with self._lock:
            for name in [name for name in self._trials if (self._spools / name).exists()]:
                key, trial = self._trials.pop(name)
                earlier = self._begun.pop(trial.id, None)
                if earlier is not None:  # its worker was killed from outside, and it is tried again
                    self._client.send(EndLive(earlier))
                self._begun[trial.id] = key
                self._pending.add(key)
                content = begun_content(trial.facts())
                spool = str(self._spools / name)
                self._client.send(BeginLive(key, self._run_id(trial.id), content, spool))
