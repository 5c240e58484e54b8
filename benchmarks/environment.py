"""Where a trial ran: versions, hardware, the state of the working directory."""

from __future__ import annotations

import functools
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from trainoff.benchmarks.record import Environment

# The packages whose version can change a number.
_PACKAGES = ("trainoff", "torch", "lightning", "torchmetrics", "pytorch_optimizer", "numpy", "scikit-learn", "mnist1d")


@functools.cache
def package_versions() -> dict[str, str]:
    """Versions of the installed packages that decide the numbers."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@functools.cache
def processor() -> str:
    """The processor's model name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def git_state(folder: Path) -> str:
    """Commit of the folder's repository, with ``-dirty`` where it was changed; empty outside one."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def describe(
    device: str = "", hardware: str = "", devices: int = 1, threads: int = 1, trials_beside: int = 0, git: str = ""
) -> Environment:
    """What a record says of this process.

    Args:
        device: Kind of device that trained; empty where nothing did.
        hardware: Its model name; the processor's by default.
        devices: How many.
        threads: Torch threads.
        trials_beside: Other trials that may run at the same time.
        git: State of the working directory.
    """
    return Environment(
        packages=package_versions(),
        python=platform.python_version(),
        platform=platform.platform(),
        hardware=hardware or processor(),
        device=device,
        devices=devices,
        git=git,
        threads=threads,
        trials_beside=trials_beside,
    )
