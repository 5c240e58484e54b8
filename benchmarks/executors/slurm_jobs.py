"""One SLURM job: what it does on its machine, and what is known of it where it was submitted."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from trainoff.benchmarks.executors import node_side
from trainoff.benchmarks.store import write_atomically

OUTCOME = ".outcome"
_BEGUN = ".begun"
_MOST_IDS = 500  # in one command line


def run_job(work: node_side.Work, payloads: dict[str, bytes], folder: str) -> None:
    """Run payloads in turn, each outcome into a file of its own as it comes; on the job's machine.

    Args:
        work: How.
        payloads: By key.
        folder: Where the outcomes go.
    """
    Path(folder, next(iter(payloads)) + _BEGUN).touch()
    for outcome in node_side.run_each(work, payloads):
        write_atomically(Path(folder, outcome.key + OUTCOME), cloudpickle.dumps(outcome))


@dataclass(eq=False)
class PendingJob:
    """A job that owes outcomes.

    Args:
        job: submitit's.
        payloads: Those without an outcome, in the order in which they are run.
        folder: Where its outcomes come.
        first: The key of its first payload.
        sent: When it was submitted, on the clock that never goes back.
        ended: When it was seen to have ended; None while it has not.
    """

    job: Any
    payloads: dict[str, bytes]
    folder: Path
    first: str = ""
    sent: float = field(default_factory=time.monotonic)
    ended: float | None = None

    def __post_init__(self) -> None:
        self.first = next(iter(self.payloads))

    @property
    def array(self) -> str:
        """The id of the array that it is a task of."""
        return str(self.job.job_id).split("_")[0]

    @property
    def has_begun(self) -> bool:
        """Whether it came as far as its first payload."""
        return (self.folder / (self.first + _BEGUN)).exists()

    def state(self) -> str:
        """SLURM's word for how it ended; ``UNKNOWN`` where nobody tells."""
        return str(self.job.state).split(" ")[0].upper()

    def why_failed(self) -> str:
        """The last line that it printed, and where the whole log is."""
        errors = self.job.stderr()
        lines = [line.strip() for line in (errors or self.job.stdout() or "").splitlines() if line.strip()]
        said = lines[-1] if lines else "it printed nothing"
        log = self.job.paths.stderr if errors else self.job.paths.stdout
        return f"job {self.job.job_id} failed before its first trial: {said} (log: {log})"


def cancel(arrays: Iterable[str]) -> None:
    """Take job arrays from SLURM's queue, and end those of their tasks that run."""
    ids = sorted(arrays)
    for start in range(0, len(ids), _MOST_IDS):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(["scancel", *ids[start : start + _MOST_IDS]], capture_output=True, timeout=60, check=False)


def note_arrays(spool: Path, cluster: str, arrays: Iterable[str]) -> None:
    """Write down what is in the queue, for the next run to cancel if this one is killed."""
    content = json.dumps({"cluster": cluster, "arrays": sorted(arrays)})
    write_atomically(spool / "jobs.json", content.encode())


def cancel_leftovers(home: Path) -> None:
    """Cancel what killed runs left in the queue, and remove their folders; the caller holds the run folder's lock."""
    for spool in filter(Path.is_dir, home.iterdir() if home.is_dir() else ()):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            noted = json.loads((spool / "jobs.json").read_bytes())
            if noted["cluster"] == "slurm":
                cancel(str(array) for array in noted["arrays"] if str(array).isdecimal())
        shutil.rmtree(spool, ignore_errors=True)
