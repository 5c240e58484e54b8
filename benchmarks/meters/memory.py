"""Peak memory of one trial in a process that has run others before."""

from __future__ import annotations

from pathlib import Path

import torch


def reset_peak(device: torch.device) -> None:
    """Forget the peak so far. ``ru_maxrss`` never falls; the kernel's high-water mark can be reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return  # not Linux, or not allowed: `peak_bytes` then finds no mark of its own and says nothing


def peak_bytes(device: torch.device) -> int | None:
    """Peak allocated bytes of the accelerator, or peak resident bytes of this process, since the reset."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
