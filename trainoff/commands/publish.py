"""``trainoff publish``."""

from __future__ import annotations

import argparse
from pathlib import Path

from trainoff.errors import UserError
from trainoff.leaderboards.numbers import count_text
from trainoff.progress import show_count


def command(arguments: argparse.Namespace) -> None:
    """Send a run folder to Weights & Biases, or write what would be sent."""
    from trainoff.leaderboards.publishing.offline import write_offline
    from trainoff.leaderboards.publishing.publish import publish

    folder, project, entity = Path(arguments.folder), checked_name(arguments.project), arguments.entity
    with show_count("runs") as watch:
        send = write_offline if arguments.offline else publish
        done = send(folder, project, entity, watch)
    for note in done.notes:
        print(note)
    if arguments.offline:
        print(f"{count_text(done.uploaded, 'run')} written, {done.found} there already. To send them: "
              f"wandb sync {done.folder}/offline-run-*")  # fmt: skip
    else:
        print(f"{count_text(done.uploaded, 'run')} sent, {done.found} there already.")
    print(f"Report: {done.address}")


def checked_name(project: str) -> str:
    """A project's name that W&B takes.

    Raises:
        UserError: For any other.
    """
    if not project or len(project) > 128 or any(letter in "/\\#?%:" for letter in project):
        raise UserError("is no project's name: up to 128 characters, none of / \\ # ? % :", f"project {project!r}")
    return project
