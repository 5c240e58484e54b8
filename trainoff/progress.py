"""The live display of a run, on a terminal only."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainoff.benchmarks.runner import Progress


@contextlib.contextmanager
def show_progress() -> Iterator[Callable[[Progress], None]]:
    """Shows trials done, running and failed, and the time left, on standard error while the block runs.

    Yields:
        What to call with each :class:`Progress`. Notes (what was set aside, and why) are printed once each, also
        where there is no terminal.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True, force_jupyter=False)  # notes are text in a notebook too
    said: set[str] = set()
    columns = (
        TextColumn("trials"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, disable=not sys.stderr.isatty(), transient=True) as bar:
        shown = bar.add_task("trials", total=None, state="starting")

        def watch(progress: Progress) -> None:
            for note in progress.notes:
                if note not in said:
                    said.add(note)
                    console.print(note, highlight=False, markup=False, soft_wrap=True)
            ended = progress.reused + progress.done
            running = min(progress.workers, progress.total - ended)
            state = f"{running} running, {progress.failed} failed"
            bar.update(shown, total=progress.total, completed=ended, state=state)

        yield watch


@contextlib.contextmanager
def show_count(noun: str) -> Iterator[Callable[[int, int], None]]:
    """Shows how many of how many are done, on standard error of a terminal while the block runs.

    Args:
        noun: What is counted.

    Yields:
        What to call with how many are done, and how many there are; 0 where that is unknown.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True, force_jupyter=False)
    columns = (TextColumn(noun), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, disable=not sys.stderr.isatty(), transient=True) as bar:
        shown = bar.add_task(noun, total=None)
        yield lambda done, total: bar.update(shown, completed=done, total=total or None)
