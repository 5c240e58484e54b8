"""Running a function on many payloads as SLURM jobs, through submitit: job arrays, each task some payloads in turn.

On its machine each payload runs as the local executor runs it (:mod:`.node_side`), and its outcome is written at once
into a folder that the runner watches: a job that is lost in mid-work loses what it was at, no more.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Generic

import cloudpickle  # type: ignore[import-untyped]

from trainoff.benchmarks.executors import node_side
from trainoff.benchmarks.executors.outcome import Outcome, Payload, Result, TimedOut, WorkerDied
from trainoff.benchmarks.executors.resources import Resources
from trainoff.benchmarks.executors.slurm_jobs import (
    OUTCOME,
    PendingJob,
    cancel,
    cancel_leftovers,
    note_arrays,
    run_job,
)
from trainoff.benchmarks.executors.slurm_options import job_parameters, minutes_of, whole
from trainoff.errors import UserError

MOST_JOBS = 256  # in the queue at a time
_MOST_LOSSES = 5  # of one payload
_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_TO_END = 10.0  # for a job that has told its last outcome
_SECONDS_TO_APPEAR = 15.0  # of a finished job's last file, on a network file system
_SECONDS_TO_GATHER = 2.0  # payloads that come one by one go out together


class _JobFailed(UserError):
    """A job that could not begin; its log stays."""


class SlurmExecutor(Generic[Payload, Result]):
    """SLURM jobs that run one function; use it in a ``with`` statement.

    Args:
        function: Called with one payload; may be a local function or a lambda.
        resources: Of each payload, and so of each job.
        folder: On a file system that the cluster's machines share; a folder is made in it, and removed at the end.
        options: ``time`` (minutes, or ``1-12:00:00``) of a job, ``trials_per_job``, and any option of ``sbatch``.
        most: Jobs in the queue at a time.
        cluster: submitit's name: ``slurm``; ``local`` for processes of this machine in place of jobs.
        seconds_between_states: SLURM is asked after the jobs no more often than that.

    Raises:
        UserError: Where submitit is not installed, or an option makes no sense.
    """

    def __init__(
        self,
        function: Callable[[Payload], Result],
        resources: Resources,
        folder: str | os.PathLike[str],
        options: Mapping[str, Any] | None = None,
        most: int | None = None,
        cluster: str = "slurm",
        seconds_between_states: float = 20.0,
    ) -> None:
        try:
            import submitit
        except ImportError as error:
            raise UserError("submitit is not installed; pip install 'trainoff[slurm]'", "--executor slurm") from error
        self._submitit = submitit
        self._function = function
        self._resources = resources
        self._home = Path(folder).absolute() / "slurm"
        self._options = dict(options or {})
        self._each = whole(self._options.pop("trials_per_job", 1), "trials_per_job")
        self._minutes = minutes_of(self._options.pop("time", None), resources.time_limit, self._each)
        self._most = most or MOST_JOBS
        self._cluster = cluster
        self._between_states = seconds_between_states
        self._next_states = 0.0
        self._sent = 0.0
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._jobs: list[PendingJob] = []
        self._ending: list[PendingJob] = []  # all outcomes of theirs are here
        self._of: dict[str, PendingJob] = {}
        self._losses: dict[str, int] = {}
        self._spool: Path | None = None
        self._submitter: Any = None

    @property
    def at_once(self) -> int:
        """Jobs in the queue; how many of them run is SLURM's to say."""
        return self._most

    @property
    def window(self) -> int:
        """What goes into so many jobs, and another one."""
        return (self._most + 1) * self._each

    def __enter__(self) -> SlurmExecutor[Payload, Result]:
        """Cancel what a killed run left in the queue, and make the folder.

        Raises:
            UserError: Where there is no SLURM here, or an option that it refuses.
        """
        if self._cluster == "slurm" and shutil.which("sbatch") is None:
            raise UserError("there is no sbatch here; run on a machine from which jobs are submitted", "executor")
        cancel_leftovers(self._home)
        self._spool = self._home / uuid.uuid4().hex
        (self._spool / "outcomes").mkdir(parents=True, mode=0o700)
        self._work = node_side.Work.of(self._function, self._resources)
        try:
            self._submitter = self._submitit.AutoExecutor(self._spool / "jobs", cluster=self._cluster)
            self._submitter.update_parameters(
                **job_parameters(self._resources, self._minutes, self._options, self._most)
            )
        except Exception as error:
            shutil.rmtree(self._spool, ignore_errors=True)
            raise UserError(" ".join(str(error).split()), "--slurm") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._spool is None:
            return
        self._cancel_all()
        if kind is None:
            self._wait_for_ends()
        if not isinstance(error, _JobFailed):  # whose log the message names
            shutil.rmtree(self._spool, ignore_errors=True)
            with contextlib.suppress(OSError):
                self._home.rmdir()
        self._submitter = self._spool = None
        self._waiting.clear()
        self._jobs.clear()
        self._of.clear()

    def _wait_for_ends(self) -> None:
        """Let jobs whose outcomes are here write their last file: without the folder SLURM would call them failed."""
        deadline = time.monotonic() + _SECONDS_TO_END
        while time.monotonic() < deadline and not all(job.job.paths.result_pickle.exists() for job in self._ending):
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        self._ending.clear()

    def submit(self, key: str, payload: Payload, places: int = 1) -> None:
        """As :meth:`.Executor.submit`; the processors and GPUs of a job are what its payloads share."""
        try:
            self._waiting.append((key, bytes(cloudpickle.dumps(payload))))
        except Exception as error:
            raise UserError(f"cannot be sent to a worker: {' '.join(str(error).split())}", key) from error

    def completed(self) -> Iterator[Outcome[Result]]:
        """As :meth:`.Executor.completed`."""
        if self._spool is None:
            raise TypeError("outcomes are asked for inside `with executor:`")
        while self._waiting or self._of:
            self._send()
            found = False
            for outcome in self._arrived():
                found = True
                yield outcome
            if not found:
                for outcome in self._ended():
                    yield outcome
                time.sleep(_SECONDS_BETWEEN_LOOKS)

    def _send(self) -> None:
        """Submit what waits as one array, unless more is likely to come in a moment."""
        free = self._most - len(self._jobs)
        few = len(self._waiting) < free * self._each
        if free < 1 or not self._waiting or (few and time.monotonic() < self._sent + _SECONDS_TO_GATHER):
            return
        assert self._spool is not None
        chunks: list[dict[str, bytes]] = []
        while self._waiting and len(chunks) < free:
            chunks.append(dict(self._waiting.popleft() for _ in range(min(self._each, len(self._waiting)))))
        outcomes = str(self._spool / "outcomes")
        try:
            with self._submitter.batch():
                made = [self._submitter.submit(run_job, self._work, chunk, outcomes) for chunk in chunks]
        except Exception as error:
            raise UserError(f"SLURM took no jobs: {' '.join(str(error).split())}", "executor") from error
        for job, chunk in zip(made, chunks, strict=True):
            pending = PendingJob(job, chunk, Path(outcomes))
            self._jobs.append(pending)
            self._of |= dict.fromkeys(chunk, pending)
        note_arrays(self._spool, self._cluster, {job.array for job in self._jobs})
        self._sent = time.monotonic()

    def _arrived(self) -> Iterator[Outcome[Result]]:
        assert self._spool is not None
        folder = self._spool / "outcomes"
        for name in sorted(os.listdir(folder)):
            if not name.endswith(OUTCOME):
                continue
            outcome: Outcome[Result] = node_side.unpacked(cloudpickle.loads((folder / name).read_bytes()))
            (folder / name).unlink()
            job = self._of.pop(outcome.key, None)
            if job is None:  # of a job that was taken for lost
                continue
            del job.payloads[outcome.key]
            if not job.payloads:
                self._jobs.remove(job)
                self._ending.append(job)
            yield outcome

    def _ended(self) -> Iterator[Outcome[Result]]:
        """What jobs that have ended owe."""
        now = time.monotonic()
        if now < self._next_states:
            return
        self._next_states = now + self._between_states
        if self._cluster == "slurm" and self._jobs:
            self._jobs[0].job.watcher.update()  # one call for all
        for job in list(self._jobs):
            if not job.job.done():
                job.ended = None
            elif job.ended is None:
                job.ended = now
                self._next_states = min(self._next_states, now + _SECONDS_BETWEEN_LOOKS)
            elif now >= job.ended + (_SECONDS_TO_APPEAR if self._cluster == "slurm" else 1.0):
                yield from self._settle(job)
            else:
                self._next_states = min(self._next_states, now + 1.0)

    def _settle(self, job: PendingJob) -> Iterator[Outcome[Result]]:
        """A job has ended and owes outcomes: of the payload it was at, and of those it had not begun."""
        self._jobs.remove(job)
        for key in job.payloads:
            del self._of[key]
        state, (at, *others) = job.state(), job.payloads.items()
        if state == "FAILED" and not job.has_begun:
            raise _JobFailed(job.why_failed(), "executor")
        failure = self._failure(state, at[0])
        self._waiting.extendleft(reversed(others if failure else [at, *others]))
        if failure is not None:
            yield Outcome(at[0], None, failure, time.monotonic() - job.sent)

    def _failure(self, state: str, key: str) -> TimedOut | WorkerDied | None:
        """What became of the payload that a job was at; None where it is run again."""
        if state == "TIMEOUT":
            return TimedOut(60.0 * self._minutes)
        if state == "OUT_OF_MEMORY":
            return WorkerDied(-signal.SIGKILL, "SIGKILL", "SLURM ended the job because memory had run out")
        self._losses[key] = self._losses.get(key, 0) + 1
        return WorkerDied(None) if self._losses[key] > _MOST_LOSSES else None

    def _cancel_all(self) -> None:
        if self._cluster == "slurm":
            cancel({job.array for job in self._jobs})
            return
        for job in self._jobs:
            with contextlib.suppress(Exception):
                job.job.cancel(check=False)
