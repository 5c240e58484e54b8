"""Standard output: what a person reads in the terminal's encoding, what a program reads in UTF-8."""

from __future__ import annotations

import errno
import io
import sys


def tolerate_any_encoding() -> None:
    """Let a terminal that lacks a character (``±`` in ASCII) show ``?`` instead of ending in an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def print_document(text: str) -> None:
    """Print JSON, HTML, Markdown, CSV or LaTeX: in UTF-8 whatever the locale, so that no character is lost."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    print(text)


def is_full(error: OSError) -> bool:
    """Whether standard output had no room: writing to a stream knows no file name, unlike all else that fails so."""
    return error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT)


def drop() -> None:
    """Give up what is still to be printed: flushing it at exit would fail again."""
    sys.stdout = None  # type: ignore[assignment]
