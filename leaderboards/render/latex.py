"""A board as LaTeX: one ``table`` a task, with the rules of the ``booktabs`` package."""

from __future__ import annotations

from trainoff.leaderboards.board import Board, TaskTable
from trainoff.leaderboards.numbers import plain
from trainoff.leaderboards.render.columns import FRONT, Column, columns_of

# What a page of paper holds: the columns of this importance and below.
_MOST_IMPORTANCE = 4
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "−": r"$-$",
    "×": r"$\times$",
    "–": "--",
    FRONT: r"$\diamond$",
}


def board_text(board: Board) -> str:
    """One ``table`` a task, its verdict as caption and its notes below; needs the package booktabs."""
    head = ["% \\usepackage{booktabs}"]
    head += [
        f"% {escaped(line)}"
        for line in (
            *filter(None, [board.unfinished]),
            *board.notes,
            *(f"Not read: {each}" for each in board.problems),
        )
    ]
    return "\n".join(head) + "\n" + "\n\n".join(map(_table, board.tables)) + "\n"


def _table(table: TaskTable) -> str:
    columns = [column for column in columns_of(table) if column.importance <= _MOST_IMPORTANCE]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escaped(table.verdict())}}}",
        rf"\begin{{tabular}}{{{''.join(map(_alignment, columns))}}}",
        r"\toprule",
        " & ".join(escaped(column.header) for column in columns) + r" \\",
        r"\midrule",
    ]
    rows = zip(*(column.cells for column in columns), strict=True)
    lines += [" & ".join(map(escaped, cells)) + r" \\" for cells in rows]
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\footnotesize {escaped(note)}" for note in table.notes]
    lines.append(r"\end{table}")
    return "\n".join(lines)


def _alignment(column: Column) -> str:
    return "l" if column.is_text else "r"


def escaped(text: str) -> str:
    """Text in which LaTeX sees no command. A leading ``[`` would be an argument of the line end before it."""
    safe = "".join(_SPECIAL.get(character, character) for character in plain(text))
    return f"{{}}{safe}" if safe.startswith(("[", "*")) else safe
