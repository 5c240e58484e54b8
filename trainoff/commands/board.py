"""``trainoff board``."""

from __future__ import annotations

import argparse
from pathlib import Path

from trainoff.leaderboards import read_board
from trainoff.leaderboards.render import render
from trainoff.output import print_document


def command(arguments: argparse.Namespace) -> None:
    """Print the board of the folders in the format asked for."""
    board = read_board([Path(folder) for folder in arguments.folders])
    format = "json" if arguments.json else arguments.format
    text = render(board, format)
    if format == "terminal":
        print(text)
    else:
        print_document(text)
