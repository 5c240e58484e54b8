"""``trainoff publish --offline``: W&B's offline runs for `wandb sync`, and the Report as a page."""

from __future__ import annotations

import tempfile
from pathlib import Path

from trainoff.benchmarks.store import RunFolder, write_atomically
from trainoff.errors import UserError
from trainoff.leaderboards.publishing.jobs import Setup, UploadArtifact, UploadRun
from trainoff.leaderboards.publishing.ledger import Ledger
from trainoff.leaderboards.publishing.material import Material, Wanted, board_files, digest_of
from trainoff.leaderboards.publishing.publish import AT_A_TIME, REPORT_PAGE, Published, Watch
from trainoff.leaderboards.publishing.run_content import content_of
from trainoff.leaderboards.publishing.wandb_client import STALL_SECONDS, WandbClient, need_wandb
from trainoff.leaderboards.report.page import report_page


def write_offline(
    folder: Path,
    project: str,
    entity: str | None = None,
    watch: Watch = lambda done, total: None,
    stall_seconds: float = STALL_SECONDS,
) -> Published:
    """Write what is not written yet, under the ids that the runs have online too.

    Args:
        folder: A run folder; the runs go to ``wandb/`` in it, the page to ``report.html``.
        project: The project that ``wandb sync`` will send them to.
        entity: Whose; the account's default by default.
        watch: Called with runs done and runs in all.
        stall_seconds: How long the client may be silent.

    Raises:
        UserError: Where they cannot be written.
    """
    need_wandb()
    material = Material.read(folder)
    done = Published(folder=folder / "wandb", notes=material.note)
    wanted = {key: Wanted.of(record) for key, record in material.records.items()}
    with RunFolder(folder), tempfile.TemporaryDirectory(prefix="trainoff-wandb-") as scratch:
        ledger = Ledger(folder, f"offline/{entity or ''}/{project}")
        setup = Setup(project, entity or "", str(folder.resolve()), offline=True)
        with WandbClient(setup, "", "", Path(scratch) / "log", stall_seconds) as client:
            missing = [key for key, each in wanted.items() if not _is_written(ledger, folder, key, each.digest)]
            done.found = len(wanted) - len(missing)
            pending = 0
            waiting = list(reversed(missing))
            watch(0, len(missing))
            while waiting or pending:
                while waiting and pending < AT_A_TIME:
                    key = waiting.pop()
                    line = ledger.find("run", key)
                    if line is not None and line.digest not in ("", wanted[key].digest):
                        ledger.deleted("run", key)  # trained again: a run of its own
                    client.send(UploadRun(key, ledger.run_id(key), content_of(material.records[key])))
                    pending += 1
                answer = client.next_answer()
                pending -= 1
                if answer.problem:
                    raise UserError(answer.text, str(folder))
                ledger.arrived("run", answer.key, answer.id, wanted[answer.key].digest)
                done.uploaded += 1
                watch(done.uploaded, len(missing))
            files = board_files(material, Path(scratch))
            key = f"board:{material.name}"
            if not _is_written(ledger, folder, key, digest_of(files)):
                answer = client.ask(UploadArtifact(material.name, ledger.run_id(key), files))
                ledger.arrived("run", key, answer.id, digest_of(files))
    page = folder / REPORT_PAGE
    write_atomically(page, report_page(material.report()).encode())
    done.address = str(page)
    return done


def _is_written(ledger: Ledger, folder: Path, key: str, digest: str) -> bool:
    line = ledger.find("run", key)
    return line is not None and line.digest == digest and any((folder / "wandb").glob(f"offline-run-*-{line.id}"))
