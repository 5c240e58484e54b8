"""The memory limits that Linux's control groups set to this process: those of containers and of cluster jobs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class ControlGroup:
    """The files of one control group.

    Args:
        limit: Holds the bytes that its processes may use together, or ``max``.
        usage: Holds the bytes that they use, page cache included.
        statistics: Says how much of that is page cache that can be given up at once.
        cache: That line's name.
        events: Counts the processes that were killed for want of memory.
    """

    limit: Path
    usage: Path
    statistics: Path
    cache: str
    events: Path

    def total_and_left(self, machine: int) -> tuple[int, int] | None:
        """Its limit and what is left of it, in bytes; None where it has no limit.

        Args:
            machine: Bytes of the whole machine; version 1 writes a limit far beyond where there is none.
        """
        limit, usage = number_of(self.limit), number_of(self.usage)
        if limit is None or usage is None or limit >= machine:
            return None
        return limit, max(limit - usage + (number_of(self.statistics, self.cache) or 0), 0)

    def kills(self) -> int | None:
        """Processes of it that the system has killed for want of memory; None where it does not count them."""
        return number_of(self.events, "oom_kill")


def own_groups() -> list[ControlGroup]:
    """The memory control groups that this process belongs to, innermost first: the limit may be any one's."""
    try:
        lines = _MEMBERSHIP.read_text().splitlines()
    except OSError:
        return []
    groups: list[ControlGroup] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            groups += [_version_1(folder) for folder in _upwards(_MOUNT / "memory", path)]
        elif not controllers:
            groups += [_version_2(folder) for folder in _upwards(_MOUNT, path)]
    return groups


def _upwards(mount: Path, path: str) -> list[Path]:
    """The folder of a group and those above it; in a container the outer ones may not be there."""
    inner = mount / path.strip("/")
    return [folder for folder in (inner, *inner.parents) if folder.is_relative_to(mount) and folder.is_dir()]


def _version_1(folder: Path) -> ControlGroup:
    return ControlGroup(
        limit=folder / "memory.limit_in_bytes",
        usage=folder / "memory.usage_in_bytes",
        statistics=folder / "memory.stat",
        cache="total_inactive_file",
        events=folder / "memory.oom_control",
    )


def _version_2(folder: Path) -> ControlGroup:
    return ControlGroup(
        limit=folder / "memory.max",
        usage=folder / "memory.current",
        statistics=folder / "memory.stat",
        cache="inactive_file",
        events=folder / "memory.events",
    )


def number_of(path: Path, name: str = "") -> int | None:
    """The number behind a name in a file of Linux's kind, or the only one there is; None where there is none."""
    try:
        for line in path.read_text().splitlines():
            words = line.split()
            if not name:
                return int(words[0])
            if words[:1] == [name]:
                return int(words[1])
    except (OSError, ValueError, IndexError):
        pass
    return None
