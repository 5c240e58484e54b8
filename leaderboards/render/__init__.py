"""A board as text: for the terminal, Markdown, one HTML page, CSV, JSON and LaTeX. Each is imported when asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from trainoff.errors import UserError, closest

if TYPE_CHECKING:
    from trainoff.leaderboards.board import Board
    from trainoff.leaderboards.comparison import Comparison

# Modules named unlike the standard library's, so that no relative path makes `import json` ours.
_MODULES = {
    "terminal": "terminal",
    "markdown": "markdown",
    "html": "html_page",
    "csv": "comma_separated",
    "json": "json_rows",
    "latex": "latex",
}
FORMATS = tuple(_MODULES)


def render(board: Board, format: str = "terminal", *, width: int | None = None, colour: bool | None = None) -> str:
    """The board in one of :data:`FORMATS`, ending without a line break.

    Args:
        board: What is shown.
        format: ``terminal``, ``markdown``, ``html``, ``csv``, ``json`` or ``latex``.
        width: Columns of the terminal; the terminal's own by default. Other formats have none.
        colour: Whether ``terminal`` uses colours; by default where standard output is a terminal.

    Raises:
        UserError: For an unknown format.
    """
    if format not in _MODULES:
        raise UserError(f"no format is called '{format}'{closest(format, FORMATS)}; there are {', '.join(FORMATS)}")
    module = importlib.import_module(f"{__name__}.{_MODULES[format]}")
    text: str = module.board_text(board, width, colour) if format == "terminal" else module.board_text(board)
    return text.rstrip("\n")


def render_comparison(
    comparison: Comparison, format: str = "terminal", *, width: int | None = None, colour: bool | None = None
) -> str:
    """Two recipes side by side, as ``terminal`` or ``json``; see :func:`render` for the arguments.

    Raises:
        UserError: For another format.
    """
    if format == "json":
        from trainoff.leaderboards.render.json_rows import comparison_text as as_json

        return as_json(comparison)
    if format == "terminal":
        from trainoff.leaderboards.render.terminal import comparison_text as as_table

        return as_table(comparison, width, colour).rstrip("\n")
    raise UserError(f"no format of a comparison is called '{format}'; there are terminal, json")
