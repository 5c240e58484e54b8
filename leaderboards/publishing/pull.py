"""``trainoff pull``: records back from the W&B runs that trainoff published."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from trainoff.benchmarks.record import Record, UnreadableRecord, from_json
from trainoff.benchmarks.store import RunFolder
from trainoff.errors import UserError
from trainoff.leaderboards.numbers import count_text
from trainoff.leaderboards.publishing.jobs import RECORD_FILE, FetchRecords, Setup
from trainoff.leaderboards.publishing.ledger import Ledger
from trainoff.leaderboards.publishing.publish import Watch
from trainoff.leaderboards.publishing.run_content import content_of
from trainoff.leaderboards.publishing.server_check import AGAIN, check
from trainoff.leaderboards.publishing.wandb_client import STALL_SECONDS, WandbClient, need_wandb


@dataclass
class Pulled:
    """What came of it.

    Args:
        written: Records that the folder lacked.
        found: Records that it had, or that several runs hold.
        notes: What the user should know.
    """

    written: int = 0
    found: int = 0
    notes: list[str] = field(default_factory=list)


def pull(
    project: str,
    folder: Path,
    entity: str | None = None,
    watch: Watch = lambda done, total: None,
    stall_seconds: float = STALL_SECONDS,
) -> Pulled:
    """Write the records that the folder lacks. A record that it has stays as it is.

    Args:
        project: The W&B project.
        folder: A run folder; made where it is missing.
        entity: Whose project; the account's default by default.
        watch: Called with records fetched, and 0: how many there are shows at the end.
        stall_seconds: How long the server may be silent.

    Raises:
        UserError: Where the server cannot be used, the project holds no such runs, or some could not be fetched; what
            could be is kept.
    """
    need_wandb()
    account = check(project, entity, writes=False)
    with tempfile.TemporaryDirectory(prefix="trainoff-wandb-") as scratch:
        place = Path(scratch) / "records"
        place.mkdir()
        setup = Setup(project, account.entity, scratch)
        with WandbClient(setup, account.server, account.key, Path(scratch) / "log", stall_seconds) as client:
            client.send(FetchRecords(str(place)))
            failures, count = [], 0
            while not (answer := client.next_answer()).is_over:
                if answer.problem:
                    failures.append(answer)
                else:
                    count += 1
                    watch(count, 0)
        if answer.problem:
            raise UserError(answer.text, f"{account.entity}/{project}")
        fetched = sorted(place.glob(f"*/{RECORD_FILE}"))
        if not fetched and not failures:
            raise UserError("holds no runs that trainoff published", f"{account.entity}/{project}")
        done = _keep(fetched, folder, account.place(project)) if fetched else Pulled()
        if failures:
            lost = f"{count_text(len(failures), 'record')} of {len(failures) + count:,} could not be fetched"
            raise UserError(f"{lost} ({failures[0].text}); {AGAIN}", f"{account.entity}/{project}")
        return done


def _keep(files: list[Path], folder: Path, place: str) -> Pulled:
    done = Pulled()
    best: dict[str, tuple[Record, str]] = {}
    for path in files:
        run_id = path.parent.name
        try:
            record = from_json(path.read_bytes())
        except (UnreadableRecord, ValueError, RecursionError) as error:
            done.notes.append(f"run {run_id} is skipped: {' '.join(str(error).split())}")
            continue
        known = best.get(record.trial.id)
        # Of several machines' runs of a trial one that ended well counts.
        if known is None or (known[0].status != "ok" and record.status == "ok"):
            best[record.trial.id] = (record, run_id)
        done.found += known is not None
    with RunFolder(folder) as run_folder:
        present, _ = run_folder.read_all()
        ledger = Ledger(folder, place)
        for key, (record, run_id) in best.items():
            if key in present and present[key].status != "interrupted":
                done.found += 1
                continue
            try:
                run_folder.write(record)
            except ValueError as error:  # an id that is no file's name
                done.notes.append(f"run {run_id} is skipped: {error}")
                continue
            done.written += 1
            # Published from here, it is the run that it came from.
            ledger.arrived("run", key, run_id, content_of(record).digest)
    return done
