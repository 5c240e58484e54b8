"""Whether memory ran out when the system killed a worker: SIGKILL says not why it was sent.

Linux only: elsewhere nothing is seen, and nothing is said.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainoff.benchmarks.executors import control_groups
from trainoff.benchmarks.executors.control_groups import ControlGroup

SECONDS_BETWEEN_LOOKS = 0.2

_PROCESSES = Path("/proc")
_SECONDS_KEPT = 3.0  # a death is told half a second after it came, later on a busy machine
_SCARCE = 0.05  # of all memory: less is left only where memory is about to run out
_MIB = 2**20


@dataclass(frozen=True)
class Look:
    """The memory at one moment.

    Args:
        at: Seconds on the clock that never goes back.
        total: Bytes there are, swap included; for the control group with the least left, its limit.
        left: Bytes of them that a process could still get.
        held: Resident bytes of the workers.
        kills: Processes that the system has killed so far for want of memory; None where it does not count them.
    """

    at: float
    total: int
    left: int
    held: int
    kills: int | None


class MemoryWatch:
    """Keeps the last looks at the memory. Cheap: half a millisecond a look."""

    def __init__(self) -> None:
        self._groups = control_groups.own_groups()
        self._looks: deque[Look] = deque()

    def look(self, workers: Iterable[int]) -> None:
        """Look, unless the last look is less than 0.2 s old.

        Args:
            workers: Process ids; those that have ended hold nothing.
        """
        if not self._looks or time.monotonic() >= self._looks[-1].at + SECONDS_BETWEEN_LOOKS:
            self._add(workers)

    def why_killed(self, workers: Iterable[int]) -> str:
        """What says that memory ran out in the last seconds; empty where nothing does.

        Args:
            workers: Process ids.
        """
        self._add(workers)
        return out_of_memory(self._looks)

    def _add(self, workers: Iterable[int]) -> None:
        seen = _look(self._groups, workers)
        if seen is None:
            return
        self._looks.append(seen)
        # One older look stays, to compare with.
        while len(self._looks) > 1 and self._looks[1].at < seen.at - _SECONDS_KEPT:
            self._looks.popleft()


def out_of_memory(looks: Sequence[Look]) -> str:
    """What in these looks, oldest first, says that memory ran out; empty where nothing does."""
    if not looks:
        return ""
    first, last = looks[0].kills, looks[-1].kills
    if first is not None and last is not None and last > first:
        return "the system ended a process because memory had run out"
    least = min(looks, key=lambda look: look.left / max(look.total, 1))
    if least.left < _SCARCE * least.total and least.held > least.left:
        return (
            f"{least.left / _MIB:.0f} of {least.total / _MIB:.0f} MiB of memory were left, "
            f"the workers held {least.held / _MIB:.0f} MiB"
        )
    return ""


def _look(groups: Sequence[ControlGroup], workers: Iterable[int]) -> Look | None:
    """None where the system does not tell."""
    machine = _machine()
    if machine is None:
        return None
    bounds = [machine, *(bound for group in groups if (bound := group.total_and_left(machine[0])))]
    total, left = min(bounds, key=lambda bound: bound[1])
    counts = [count for group in groups if (count := group.kills()) is not None]
    # The group's own count where there is one: the machine's counts other people's processes too.
    kills = counts[0] if counts else control_groups.number_of(_PROCESSES / "vmstat", "oom_kill")
    return Look(time.monotonic(), total, left, sum(map(_resident, workers)), kills)


def _machine() -> tuple[int, int] | None:
    """Memory and swap of the machine in bytes: all, and what is left."""
    path = _PROCESSES / "meminfo"
    names = ("MemTotal:", "SwapTotal:", "MemAvailable:", "SwapFree:")
    memory, swap, available, free = (control_groups.number_of(path, name) for name in names)
    if memory is None or available is None:
        return None
    return (memory + (swap or 0)) * 1024, (available + (free or 0)) * 1024


def _resident(worker: int) -> int:
    return (control_groups.number_of(_PROCESSES / str(worker) / "status", "VmRSS:") or 0) * 1024
