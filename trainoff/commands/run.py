"""``trainoff run``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from trainoff.errors import UserError
from trainoff.leaderboards.render import render
from trainoff.output import print_document


def command(arguments: argparse.Namespace) -> None:
    """Run what is missing, write the board beside the records, print it."""
    from trainoff.benchmarks.executors.choice import ExecutorChoice
    from trainoff.benchmarks.runner import run_suite
    from trainoff.benchmarks.suite import load_suite
    from trainoff.progress import show_progress
    from trainoff.running import write_board

    executor = _executor(arguments)
    choice = ExecutorChoice.of(executor, arguments.workers)
    suite = load_suite(arguments.suite, arguments.scale)
    if arguments.seeds is not None:
        suite = suite.with_seeds(arguments.seeds)
    if arguments.only is not None:
        suite = suite.only(arguments.only)
    if arguments.memory_limit is not None:
        suite = suite.with_memory_limit(arguments.memory_limit)
    folder = Path(arguments.out) if arguments.out else Path("runs") / suite.name
    if arguments.dry_run:
        from trainoff.commands.dry_run import describe

        describe(suite, folder, arguments.rerun, choice, arguments.json)
        return
    with show_progress() as watch:
        progress = run_suite(suite, folder, arguments.workers, arguments.rerun, watch=watch, executor=executor)
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


def _executor(arguments: argparse.Namespace) -> dict[str, Any]:
    """The executor and its options, as they would stand in Python."""
    options = {key: getattr(arguments, key) for key in ("address", "cpus", "gpus")}
    given = {key: value for key, value in options.items() if value is not None}
    for pair in arguments.slurm:
        key, sign, value = pair.partition("=")
        if arguments.executor != "slurm":
            raise UserError(f"'{pair}' is for --executor slurm", "--slurm")
        if not key:
            raise UserError(f"'{pair}' is no option; write partition=gpu", "--slurm")
        given[key] = value if sign else True
    if "address" in given and arguments.executor != "ray":
        raise UserError("is for --executor ray", "--address")
    return {"name": arguments.executor, **given}
