"""The parent's side of the process that holds the W&B client: asks, waits with a limit, and ends it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import IO

import msgspec

from trainoff.errors import UserError
from trainoff.leaderboards.publishing.jobs import Answer, Job, Setup

STALL_SECONDS = 90.0  # without any answer
_SECONDS_TO_END = 20.0
_MODULE = "trainoff.leaderboards.publishing.wandb_process"


def need_wandb(*, report: bool = False) -> None:
    """Check that the libraries are installed.

    Args:
        report: Whether a Report is to be made too.

    Raises:
        UserError: Where one is missing; says how to install it.
    """
    if not _is_installed("wandb"):
        raise UserError("Weights & Biases' client is not installed: pip install wandb", "wandb")
    if report and not _is_installed("wandb_workspaces"):
        raise UserError("a Report needs wandb-workspaces: pip install 'trainoff[report]'", "wandb")


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False


class Stalled(UserError):
    """The client has not answered for a long time."""


class WandbClient:
    """The process; to be entered. Leaving the block by an exception ends it at once.

    Args:
        setup: Where everything goes.
        server: The server's address; empty offline.
        key: The API key; given to the process by its environment alone.
        log: Where the client's own messages go.
        stall_seconds: How long to wait for any answer.
    """

    def __init__(self, setup: Setup, server: str, key: str, log: Path, stall_seconds: float = STALL_SECONDS) -> None:
        self._setup = setup
        self._server = server
        self._key = key
        self._log = log
        self._stall_seconds = stall_seconds
        self._answers: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()
        self._jobs: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> WandbClient:
        environment = {**os.environ, "WANDB_SILENT": "true"}
        if not self._setup.offline:
            environment |= {"WANDB_BASE_URL": self._server, "WANDB_API_KEY": self._key}
        for name in ("WANDB_RUN_ID", "WANDB_RESUME", "WANDB_MODE", "WANDB_NOTES", "WANDB_NAME", "WANDB_TAGS",
                     "WANDB_RUN_GROUP", "WANDB_JOB_TYPE", "WANDB_SWEEP_ID", "WANDB_DISABLED"):  # fmt: skip
            environment.pop(name, None)  # they would speak for one run
        with open(self._log, "ab") as log:
            # A session of its own: Ctrl-C at the terminal is for this process, which ends that one.
            self._process = subprocess.Popen(
                [sys.executable, "-m", _MODULE],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment, start_new_session=True,
            )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdin is not None
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()
        # From a thread: a client that does not read must not make whoever trains wait.
        threading.Thread(target=self._write, args=(self._process.stdin,), daemon=True).start()
        self._jobs.put(msgspec.json.encode(self._setup))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._jobs.put(None)
        if kind is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_SECONDS_TO_END)
        self.kill()

    def kill(self) -> None:
        """End the process and its children at once; what is not up is left for the next time."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:  # Windows
                self._process.kill()
        self._process.wait()

    def send(self, job: Job) -> None:
        """Ask for something; the answer comes by :meth:`next_answer`."""
        self._jobs.put(msgspec.json.encode(job))

    def ask(self, job: Job) -> Answer:
        """Ask for one thing and wait for it; nothing else may be pending.

        Raises:
            UserError: Where it cannot be done.
        """
        self.send(job)
        answer = self.next_answer()
        while not answer.is_over:
            answer = self.next_answer()
        if answer.problem:
            raise UserError(answer.text, self._server or "wandb")
        return answer

    def next_answer(self, seconds: float | None = None) -> Answer:
        """The next answer.

        Args:
            seconds: To wait; the stall limit by default.

        Raises:
            Stalled: Where none comes in time.
            UserError: Where the process has ended.
        """
        limit = self._stall_seconds if seconds is None else seconds
        try:
            answer = self._answers.get(timeout=limit)
        except queue.Empty:
            place = self._server or "wandb"
            raise Stalled(f"nothing has arrived for {limit:g} s; run the same command again later", place) from None
        if answer is None:
            raise UserError(f"the client has ended by itself; its messages are in {self._log}", "wandb")
        return answer

    def _write(self, lines: IO[bytes]) -> None:
        with contextlib.suppress(OSError):  # it has ended: reading says so
            while (line := self._jobs.get()) is not None:
                lines.write(line + b"\n")
                lines.flush()
        with contextlib.suppress(OSError):
            lines.close()

    def _read(self, lines: IO[bytes]) -> None:
        for line in lines:
            self._answers.put(msgspec.json.decode(line, type=Answer))
        self._answers.put(None)
