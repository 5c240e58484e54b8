"""A limit to what one worker may hold, its children with it: a trial over it is ended before the machine suffers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

from trainoff.benchmarks.executors.memory_watch import SECONDS_BETWEEN_LOOKS
from trainoff.benchmarks.executors.process_tree import held_bytes, kill_tree, proportional_bytes, tree_of
from trainoff.errors import UserError

_UNITS = {"": 1, "B": 1}
for _power, _unit in enumerate("KMGT", 1):
    _UNITS |= {_unit: 1000**_power, f"{_unit}B": 1000**_power, f"{_unit}IB": 1024**_power}
_MIB = 2**20


def bytes_of(given: object, where: str) -> int:
    """Bytes from a whole number, or from ``4GB``, ``512MiB`` and the like.

    Args:
        given: What the user wrote.
        where: The key, for messages.

    Raises:
        UserError: For anything else, and for less than a byte.
    """
    if isinstance(given, int) and not isinstance(given, bool) and given > 0:
        return given
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([A-Za-z]*)", given.strip()) if isinstance(given, str) else None
    if match is None or match[2].upper() not in _UNITS or not float(match[1]):
        raise UserError(f"{given!r} is no size of memory; write 4GB, 512MiB or a number of bytes", where)
    return max(int(float(match[1]) * _UNITS[match[2].upper()]), 1)


class MemoryLimit:
    """Ends workers that hold more than a limit, and remembers why.

    Args:
        limit: Bytes that a worker and its descendants may hold together.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._next_look = 0.0
        self._over: set[int] = set()  # at the last look
        self._ended: dict[int, str] = {}

    def enforce(self, workers: Iterable[int]) -> None:
        """Look, unless the last look is less than 0.2 s old, and end what is over the limit twice running.

        Args:
            workers: Process ids; those that have ended hold nothing.
        """
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + SECONDS_BETWEEN_LOOKS
        before, self._over = self._over, set()
        for worker in workers:
            processes = tree_of(worker)
            # Counting shared pages once takes milliseconds: only where it can decide. Processes that end meanwhile
            # make it too much, so that one look alone says nothing.
            if held_bytes(processes) > self.limit and (held := proportional_bytes(processes)) > self.limit:
                self._over.add(worker)
                if worker in before:
                    told = f"it held {held / _MIB:.0f} MiB, over its limit of {self.limit / _MIB:.0f} MiB"
                    self._ended[worker] = told
                    kill_tree(worker)

    def why_ended(self, worker: int | None) -> str:
        """Why a worker was ended here; empty where it was not."""
        return self._ended.pop(worker, "") if worker is not None else ""

    def why_ended_any(self) -> str:
        """Why one of those was ended that nobody has asked after; empty where there is none."""
        return next(iter(self._ended.values()), "")
