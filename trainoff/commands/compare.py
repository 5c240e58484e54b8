"""``trainoff compare``."""

from __future__ import annotations

import argparse

from trainoff.leaderboards import compare, read_board, render_comparison
from trainoff.output import print_document


def command(arguments: argparse.Namespace) -> None:
    """Print two recipes side by side, paired by task and seed."""
    comparison = compare(read_board(arguments.folder), arguments.first, arguments.second)
    if arguments.json:
        print_document(render_comparison(comparison, "json"))
    else:
        print(render_comparison(comparison))
