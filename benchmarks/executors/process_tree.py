"""The memory of a process with all its descendants, and their end. Linux only: elsewhere nothing is seen."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path

from trainoff.benchmarks.executors.control_groups import number_of

_PROCESSES = Path("/proc")


_RANK = "rank-of-"  # with a process id 15 characters at most, which is all that Linux keeps


def belong_to(owner: int) -> None:
    """Have this process counted as a child of the one that asked a fork server for it: by its name."""
    with contextlib.suppress(OSError):
        (_PROCESSES / "self" / "comm").write_text(f"{_RANK}{owner}")


def tree_of(root: int) -> list[int]:
    """The process, its descendants and what belongs to them, parents first; those that have ended are left out."""
    parents = _living()
    children: dict[int, list[int]] = {}
    for process, parent in parents.items():
        children.setdefault(parent, []).append(process)
    found = [root] if root in parents else []
    for process in found:
        found += children.get(process, [])
    return found


def held_bytes(processes: Iterable[int]) -> int:
    """Resident bytes of processes; a page that several of them share counts in each."""
    return 1024 * sum(number_of(_PROCESSES / str(process) / "status", "VmRSS:") or 0 for process in processes)


def proportional_bytes(processes: Iterable[int]) -> int:
    """Resident bytes of processes, each shared page divided among those that share it (PSS).

    Slower than :func:`held_bytes`, which counts a data set once for each worker of a DataLoader.
    """
    total = 0
    for process in processes:
        folder = _PROCESSES / str(process)
        kibibytes = number_of(folder / "smaps_rollup", "Pss:")  # since Linux 4.14
        total += 1024 * (number_of(folder / "status", "VmRSS:") or 0 if kibibytes is None else kibibytes)
    return total


def kill_tree(root: int) -> None:
    """End a process and its descendants at once. The descendants first: orphans are nobody's any more."""
    for process in reversed(tree_of(root)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGKILL)


def _living() -> dict[int, int]:
    """Each process that lives, with its parent."""
    found = {}
    with contextlib.suppress(OSError):
        for name in filter(str.isdecimal, os.listdir(_PROCESSES)):
            with contextlib.suppress(OSError, ValueError):
                # The name of a program, in parentheses, may hold anything.
                program, _, rest = (_PROCESSES / name / "stat").read_text().rpartition(")")
                state, parent = rest.split()[:2]
                _, is_rank, owner = program.partition(f"({_RANK}")
                if state != "Z":
                    found[int(name)] = int(owner if is_rank else parent)
    return found
