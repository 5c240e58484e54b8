"""``trainoff run``."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainoff.commands.publish import checked_name
from trainoff.errors import UserError
from trainoff.leaderboards.numbers import count_text
from trainoff.leaderboards.render import render
from trainoff.output import print_document

if TYPE_CHECKING:
    from trainoff.leaderboards.publishing.live import LiveRuns


def command(arguments: argparse.Namespace) -> None:
    """Run what is missing, write the board beside the records, print it."""
    if arguments.wandb is not None:
        _check_wandb(arguments.wandb)
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
    with _tracking(arguments, folder) as tracker:
        with show_progress() as watch:
            progress = run_suite(
                suite, folder, arguments.workers, arguments.rerun, watch=watch, executor=executor, tracker=tracker
            )
        board = write_board(folder)
        if arguments.json:
            print_document(render(board, "json"))
        else:
            print(render(board))
        page = folder / "board.html"
        facts = sys.stderr if arguments.json else sys.stdout
        print(
            f"{progress.done} trials run, {progress.reused} found in {folder}, {progress.failed} failed. Page: {page}",
            file=facts,
        )
    if arguments.wandb is not None:
        _send_rest(arguments, folder)


def _check_wandb(project: str) -> None:
    from trainoff.leaderboards.publishing.wandb_client import need_wandb

    checked_name(project)
    need_wandb()


@contextlib.contextmanager
def _tracking(arguments: argparse.Namespace, folder: Path) -> Iterator[LiveRuns | None]:
    """The live runs; none where they are not asked for, or the server cannot be used now."""
    if arguments.wandb is None:
        yield None
        return
    from trainoff.leaderboards.publishing.live import LiveRuns
    from trainoff.leaderboards.publishing.server_check import check

    try:
        live = LiveRuns(folder, arguments.wandb, check(arguments.wandb, arguments.entity))
    except UserError as error:
        print(f"trainoff: {error}; the trials run all the same", file=sys.stderr)
        yield None
        return
    with live:
        yield live


def _send_rest(arguments: argparse.Namespace, folder: Path) -> None:
    """What is not up yet: trials that ran earlier, and what the server did not take."""
    from trainoff.leaderboards.publishing.publish import publish
    from trainoff.progress import show_count

    with show_count("runs") as watch:
        done = publish(folder, arguments.wandb, arguments.entity, watch, with_report=False)
    for note in done.notes:
        print(note, file=sys.stderr)
    print(
        f"W&B: all {count_text(done.uploaded + done.found, 'run')} of {folder} are in the project {arguments.wandb}. "
        f"`trainoff publish {folder} --project {arguments.wandb}` makes the Report.",
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
