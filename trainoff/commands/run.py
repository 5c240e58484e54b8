"""``trainoff run``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from trainoff.leaderboards.render import render
from trainoff.output import print_document


def command(arguments: argparse.Namespace) -> None:
    """Run what is missing, write the board beside the records, print it."""
    from trainoff.benchmarks.runner import run_suite
    from trainoff.benchmarks.suite import load_suite
    from trainoff.progress import show_progress
    from trainoff.running import write_board

    suite = load_suite(arguments.suite, arguments.scale)
    if arguments.seeds is not None:
        suite = suite.with_seeds(arguments.seeds)
    if arguments.only is not None:
        suite = suite.only(arguments.only)
    folder = Path(arguments.out) if arguments.out else Path("runs") / suite.name
    if arguments.dry_run:
        from trainoff.commands.dry_run import describe

        describe(suite, folder, arguments.rerun, arguments.workers, arguments.json)
        return
    with show_progress() as watch:
        progress = run_suite(suite, folder, arguments.workers, arguments.rerun, watch=watch)
    board = write_board(folder)
    if arguments.json:
        print_document(render(board, "json"))
    else:
        print(render(board))
    page = folder / "board.html"
    print(
        f"{progress.done} trials run, {progress.reused} found in {folder}, {progress.failed} failed. Page: {page}",
        file=sys.stderr if arguments.json else sys.stdout,
    )
