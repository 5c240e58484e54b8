"""What the process that holds the W&B client is asked, and what it answers: a line of JSON each."""

from __future__ import annotations

from typing import Literal

import msgspec

from trainoff.leaderboards.publishing.run_content import RunContent
from trainoff.leaderboards.report.description import Report

RECORD_FILE = "trainoff-record.json"


class Setup(msgspec.Struct):
    """The first line.

    Attributes:
        project: Where everything goes.
        entity: Whose project; may be empty offline.
        folder: Where wandb keeps its own files.
        offline: Whether runs are written to disk only.
    """

    project: str
    entity: str
    folder: str
    offline: bool = False


class MakeProject(msgspec.Struct, tag=True):
    """Make the project where it is missing."""

    key: str = "project"


class ListRuns(msgspec.Struct, tag=True):
    """All runs of the project that trainoff made."""

    key: str = "runs"


class UploadRun(msgspec.Struct, tag=True):
    """A whole run."""

    key: str
    run_id: str
    content: RunContent


class BeginLive(msgspec.Struct, tag=True):
    """A run whose rows come by and by in a file.

    Attributes:
        spool: Rows as JSON lines, and before them the trainer's process id.
    """

    key: str
    run_id: str
    content: RunContent
    spool: str


class EndLive(msgspec.Struct, tag=True):
    """The same run, whole, once its trial has ended; without content where it will be tried again."""

    key: str
    content: RunContent | None = None


class UploadArtifact(msgspec.Struct, tag=True):
    """Files as the next version of an artifact.

    Attributes:
        key: The artifact's name.
        run_id: Of the run that it belongs to.
        files: Of each its name in the artifact, and its path.
    """

    key: str
    run_id: str
    files: dict[str, str]


class SaveReport(msgspec.Struct, tag=True):
    """A Report.

    Attributes:
        report: What it says.
        id: Of the one that it replaces; where that was deleted, it is made anew.
        is_known: Whether that one says the same, so that nothing is to be done where it is still there.
    """

    report: Report
    id: str = ""
    is_known: bool = False
    key: str = "report"


class Supersede(msgspec.Struct, tag=True):
    """Mark a run as an earlier training of its trial, so that neither the Report nor ``pull`` counts it."""

    run_id: str
    key: str = "superseded"


class FetchRecords(msgspec.Struct, tag=True):
    """The records of all runs that trainoff made, into a folder, a file a run."""

    folder: str
    key: str = "records"


Job = MakeProject | ListRuns | UploadRun | BeginLive | EndLive | UploadArtifact | SaveReport | Supersede | FetchRecords


class FoundRun(msgspec.Struct):
    """A run as the server has it.

    Attributes:
        state: ``running``, ``finished``, ``failed``, ``crashed`` or ``killed``.
        rows: Lines of its history.
    """

    id: str
    state: str
    rows: int


class Answer(msgspec.Struct, omit_defaults=True):
    """What became of a job.

    Attributes:
        key: The job's.
        problem: ``deleted`` where the id was deleted, ``denied`` without rights, ``failed`` otherwise; empty where all
            is well.
        text: Why, in one line.
        id: Of what was made.
        address: Where it can be seen.
        runs: Answer to :class:`ListRuns`.
        is_over: Whether nothing more comes for this job; a job of many parts answers several times.
    """

    key: str
    problem: Literal["", "deleted", "denied", "failed"] = ""
    text: str = ""
    id: str = ""
    address: str = ""
    runs: list[FoundRun] = []
    is_over: bool = True
