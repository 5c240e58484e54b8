"""The one error style of trainoff: a line that says what is wrong, where, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend; the command line prints it as one line and exits with status 2.

    Args:
        message: What is wrong and what would be right, without a full stop at the end.
        where: The place: a file, a key, a line, an argument. Printed before the message.
    """

    def __init__(self, message: str, where: str = "") -> None:
        self.message = message
        self.where = where
        super().__init__(f"{where}: {message}" if where else message)

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str]]:
        # An exception is rebuilt from `args`, which holds the joined text: without this, it would lose its parts
        # on the way from a worker.
        return (type(self), (self.message, self.where))


def closest(name: str, names: Iterable[str], count: int = 3) -> str:
    """`; did you mean a, b?` for the names nearest to ``name``, or an empty string where none is near."""
    near = difflib.get_close_matches(str(name), list(names), n=count, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""
