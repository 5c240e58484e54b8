"""``trainoff search``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from trainoff.leaderboards.render import render
from trainoff.output import print_document


def command(arguments: argparse.Namespace) -> None:
    """Search, write the board beside the records, print it."""
    from trainoff.benchmarks.search import Plan, run_search
    from trainoff.benchmarks.suite import load_suite
    from trainoff.progress import show_progress
    from trainoff.running import write_board

    suite = load_suite(arguments.suite)
    folder = Path(arguments.out) if arguments.out else Path("runs") / suite.name
    plan = Plan(arguments.trials, arguments.cost, arguments.population, arguments.seed)
    with show_progress() as watch:
        progress = run_search(suite, folder, plan, arguments.workers, watch=watch)
    board = write_board(folder)
    print_document(render(board, "json")) if arguments.json else print(render(board))
    print(
        f"{progress.done} trials run, {progress.reused} found in {folder}, {progress.failed} failed. "
        f"Page: {folder / 'board.html'}",
        file=sys.stderr if arguments.json else sys.stdout,
    )
