"""``trainoff pull``."""

from __future__ import annotations

import argparse
from pathlib import Path

from trainoff.commands.publish import checked_name
from trainoff.leaderboards.numbers import count_text
from trainoff.progress import show_count


def command(arguments: argparse.Namespace) -> None:
    """Bring records back from Weights & Biases."""
    from trainoff.leaderboards.publishing.pull import pull

    project = checked_name(arguments.project)
    folder = Path(arguments.out) if arguments.out else Path("runs") / project
    with show_count("records") as watch:
        done = pull(project, folder, arguments.entity, watch)
    for note in done.notes:
        print(note)
    print(f"{count_text(done.written, 'record')} written to {folder}, {done.found} there already. "
          f"`trainoff board {folder}` shows them.")  # fmt: skip
