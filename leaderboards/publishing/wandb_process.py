"""The process that holds the W&B client: jobs come on standard input, answers go to standard output.

A process of its own, because the client waits for a server that hangs, at a program's end too, and because it is not
to share memory, threads or signals with a training.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from trainoff.leaderboards.publishing import jobs
from trainoff.leaderboards.publishing.live_rows import follow
from trainoff.leaderboards.publishing.run_content import EPOCH, SUPERSEDED, TAG, RunContent, metric_name, row_of

_THREADS = 8
_LIVE_THREADS = 64
_SECONDS_AFTER_END = 60.0  # once the parent has gone
_PAGE = 500


class Client:
    """Does the jobs.

    Args:
        setup: Where everything goes.
        answers: Where the answers go.
    """

    def __init__(self, setup: jobs.Setup, answers: BinaryIO) -> None:
        import wandb

        self.wandb = wandb
        self.setup = setup
        self._answers = answers
        self._lock = threading.Lock()
        self._ends: dict[str, tuple[threading.Event, list[RunContent | None]]] = {}
        self._in_use: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)  # by run id

    def answer(self, answer: jobs.Answer) -> None:
        """Send a line."""
        with self._lock:
            self._answers.write(msgspec.json.encode(answer) + b"\n")
            self._answers.flush()

    def do(self, job: jobs.Job) -> None:
        """Do one job, and say how it went."""
        try:
            self.answer(self._done(job))
        except Exception as error:
            self.answer(_failure(job.key, error))

    def expect_end(self, key: str) -> None:
        """Before a live run is begun: its end may come first."""
        self._ends[key] = (threading.Event(), [])

    def end(self, job: jobs.EndLive) -> None:
        """Tell a live run that its trial has ended."""
        event, content = self._ends[job.key]
        content.append(job.content)
        event.set()

    def _done(self, job: jobs.Job) -> jobs.Answer:
        if isinstance(job, jobs.UploadRun):
            return self._upload(job)
        if isinstance(job, jobs.BeginLive):
            with self._in_use[job.run_id]:  # where it is tried again, the first attempt ends first
                return self._follow(job)
        if isinstance(job, jobs.MakeProject):
            self._api().create_project(self.setup.project, self.setup.entity)
            return jobs.Answer(job.key)
        if isinstance(job, jobs.ListRuns):
            return jobs.Answer(job.key, runs=[jobs.FoundRun(run.id, run.state, _rows_of(run)) for run in self._runs()])
        if isinstance(job, jobs.UploadArtifact):
            return self._upload_artifact(job)
        if isinstance(job, jobs.SaveReport):
            from trainoff.leaderboards.report.workspaces import save

            identity, address = save(job.report, self.setup.entity, self.setup.project, job.id, job.is_known)
            return jobs.Answer(job.key, id=identity, address=address)
        if isinstance(job, jobs.Supersede):
            run = self._api().run(f"{self.setup.entity}/{self.setup.project}/{job.run_id}")
            run.tags = [*run.tags, SUPERSEDED]
            run.config["stage"] = SUPERSEDED  # what the Report's panels are filtered by
            run.update()
            return jobs.Answer(job.key)
        assert isinstance(job, jobs.FetchRecords)
        return self._fetch(job)

    def _begin(self, run_id: str, content: RunContent, **settings: Any) -> Any:
        run = self.wandb.init(
            entity=self.setup.entity or None,
            project=self.setup.project,
            id=run_id,
            name=content.name,
            group=content.group,
            job_type=content.job_type,
            tags=content.tags,
            config=content.config,
            mode="offline" if self.setup.offline else "online",
            resume=None if self.setup.offline else "allow",
            reinit="create_new",
            dir=self.setup.folder,
            settings=self._settings(**settings),
        )
        run.define_metric(EPOCH, hidden=True)
        run.define_metric("*", step_metric=EPOCH)
        return run

    def _settings(self, **others: Any) -> Any:
        """Quiet, and without what W&B would gather by itself: command lines and remotes may hold secrets."""
        given: dict[str, Any] = {
            "silent": True,
            "console": "off",
            "disable_git": True,
            "disable_code": True,
            "save_code": False,
            "x_disable_meta": True,
            "x_disable_machine_info": True,
            "x_save_requirements": False,
            "x_disable_stats": True,
            "init_timeout": 30.0,
            "x_graphql_retry_wait_min_seconds": 0.5,
            "x_graphql_retry_wait_max_seconds": 8.0,
            "x_file_stream_retry_wait_min_seconds": 0.5,
            "x_file_stream_retry_wait_max_seconds": 8.0,
            "x_file_transfer_retry_wait_min_seconds": 0.5,
            "x_file_transfer_retry_wait_max_seconds": 8.0,
        }
        return self.wandb.Settings(**(given | others))

    def _upload(self, job: jobs.UploadRun) -> jobs.Answer:
        run = self._begin(job.run_id, job.content)
        self._complete(run, job.content, job.content.rows, run.starting_step)
        return jobs.Answer(job.key, id=job.run_id, address=str(run.dir if self.setup.offline else run.url or ""))

    def _follow(self, job: jobs.BeginLive) -> jobs.Answer:
        """Log rows as they come, then what the record says."""
        ended, content = self._ends[job.key]
        run: Any = None
        logged = 0
        metric = metric_name(job.content.config["task_config"])
        for values in follow(Path(job.spool), ended):
            if run is None:  # the first line is the trainer's process id, which the system's figures are to be of
                run = self._begin(
                    job.run_id,
                    job.content,
                    x_disable_stats=False,
                    x_disable_machine_info=False,
                    x_stats_pid=values["pid"],
                )
                logged = max(run.starting_step - 1, 0)
            elif (
                values[EPOCH] == logged + 1
            ):  # beyond a gap nothing is sent before the record is there: steps only grow
                run.log(row_of(values, metric), step=values[EPOCH])
                logged = values[EPOCH]
        whole = content[-1] if content else None
        if whole is None:  # it will be tried again, under the same id
            if run is not None:
                run.finish(exit_code=1)
            return jobs.Answer(job.key, "failed", "the trial has not ended")
        if run is None:
            run = self._begin(job.run_id, whole)
            logged = max(run.starting_step - 1, 0)
        run.config.update(whole.config, allow_val_change=True)
        self._complete(run, whole, whole.rows, logged + 1)
        return jobs.Answer(job.key, id=job.run_id, address=str(run.url or ""))

    def _complete(self, run: Any, content: RunContent, rows: list[dict[str, Any]], start: int) -> None:
        for row in rows:
            if row[EPOCH] >= start:
                run.log(row, step=row[EPOCH])
        run.summary.update(content.summary)
        # Beside the run's own files, so that nothing else has to outlive the upload.
        path = Path(run.dir) / jobs.RECORD_FILE
        path.write_text(content.record, encoding="utf-8")
        run.save(str(path), base_path=run.dir, policy="now")
        run.finish(exit_code=1 if content.has_failed else 0)

    def _upload_artifact(self, job: jobs.UploadArtifact) -> jobs.Answer:
        content = RunContent(name=f"board of {job.key}", group="boards", job_type="board", tags=[TAG], config={})
        run = self._begin(job.run_id, content)
        artifact = self.wandb.Artifact(job.key, "trainoff-board")
        for name, path in job.files.items():
            artifact.add_file(path, name=name)
        run.log_artifact(artifact)
        run.finish()
        return jobs.Answer(job.key, id=job.run_id, address=str(run.url or ""))

    def _api(self) -> Any:
        return self.wandb.Api(timeout=20)

    def _runs(self) -> list[Any]:
        path = f"{self.setup.entity}/{self.setup.project}"
        return list(self._api().runs(path, filters={"tags": {"$in": [TAG]}}, per_page=_PAGE))

    def _fetch(self, job: jobs.FetchRecords) -> jobs.Answer:
        with ThreadPoolExecutor(_THREADS) as threads:
            runs = [run for run in self._runs() if SUPERSEDED not in run.tags]
            list(threads.map(lambda run: self._fetch_one(job, run), runs))
        return jobs.Answer(job.key)

    def _fetch_one(self, job: jobs.FetchRecords, run: Any) -> None:
        folder = Path(job.folder) / run.id
        try:
            for file in run.files([jobs.RECORD_FILE]):
                folder.mkdir()
                file.download(root=str(folder), replace=True)
                self.answer(jobs.Answer(job.key, id=run.id, is_over=False))
        except Exception as error:
            failure = _failure(job.key, error)
            shutil.rmtree(folder, ignore_errors=True)
            self.answer(jobs.Answer(job.key, "failed", failure.text, id=run.id, is_over=False))


def _rows_of(run: Any) -> int:
    return int(run._attrs.get("historyLineCount") or 0)


def _failure(key: str, error: Exception) -> jobs.Answer:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    if secret := os.environ.get("WANDB_API_KEY"):
        text = text.replace(secret, "…")
    if "previously created and deleted" in text:
        return jobs.Answer(key, "deleted", text[:300])
    denied = re.search(r"permission denied|\b403\b", text, re.IGNORECASE)
    return jobs.Answer(key, "denied" if denied else "failed", text[:300])


def main() -> None:
    """Read jobs until there are no more, do them, and end."""
    lines = sys.stdin.buffer
    setup = msgspec.json.decode(lines.readline(), type=jobs.Setup)
    # Whatever a library prints must not come among the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    client = Client(setup, answers)
    decoder = msgspec.json.Decoder(jobs.Job)
    with ThreadPoolExecutor(_THREADS) as threads, ThreadPoolExecutor(_LIVE_THREADS) as live:
        for line in lines:
            job = decoder.decode(line)
            if isinstance(job, jobs.EndLive):
                client.end(job)
            elif isinstance(job, jobs.BeginLive):
                client.expect_end(job.key)
                live.submit(client.do, job)
            else:
                threads.submit(client.do, job)
        threading.Thread(target=_end_at_last, daemon=True).start()
    client.wandb.teardown()


def _end_at_last() -> None:
    time.sleep(_SECONDS_AFTER_END)
    os._exit(1)


if __name__ == "__main__":
    main()
