"""What one payload gets: processors, GPUs, memory, time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Resources:
    """For one payload.

    Args:
        cpus: Processors; as many threads as that.
        gpus: GPUs of its own. None: none on a cluster; on this machine one, which workers may share.
        memory_limit: Bytes it may hold, with all its processes.
        time_limit: Seconds it may take.
        preload: Modules that every payload imports, and that workers have imported before.
    """

    cpus: int = 1
    gpus: int | None = None
    memory_limit: int | None = None
    time_limit: float | None = None
    preload: tuple[str, ...] = ()
