"""Which GPUs a worker sees: each takes a free slot when it starts, and holds it for as long as it lives.

A slot is a locked file. The kernel frees the lock with its process, however that ends, so that a worker's successor
finds the slot free without anybody keeping books.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from dataclasses import dataclass

from trainoff.errors import UserError

VISIBLE = "CUDA_VISIBLE_DEVICES"
_SECONDS_TO_WAIT = 60.0  # children of a dead worker, such as a DataLoader's, hold its lock until they end too

_held: list[int] = []


def _close_in_child() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


@dataclass(frozen=True)
class GpuSlots:
    """Slots that workers take, one each.

    Args:
        folder: Where the lock files are; it exists, and all workers see it.
        groups: Of each slot, the devices as ``CUDA_VISIBLE_DEVICES`` names them.
    """

    folder: str
    groups: tuple[str, ...]

    def take(self) -> str:
        """Take a free slot for this process; its devices.

        Raises:
            RuntimeError: Where none became free.
        """
        import fcntl

        deadline = time.monotonic() + _SECONDS_TO_WAIT
        while time.monotonic() < deadline:
            for number, devices in enumerate(self.groups):
                descriptor = os.open(
                    os.path.join(self.folder, f"slot-{number}"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
                )
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(descriptor)
                    continue
                if not _held:
                    os.register_at_fork(after_in_child=_close_in_child)
                _held.append(descriptor)
                return devices
            time.sleep(0.05)
        raise RuntimeError(f"no GPU became free in {_SECONDS_TO_WAIT:.0f} seconds")


def visible_devices() -> list[str]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them. Wakes no GPU."""
    if VISIBLE in os.environ:
        return [device.strip() for device in os.environ[VISIBLE].split(",") if device.strip() not in ("", "-1")]
    listed = ""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=20, check=True)
        listed = done.stdout
    return [str(number) for number, line in enumerate(listed.splitlines()) if line.startswith("GPU ")]


def device_groups(devices: list[str], workers: int, each: int | None) -> tuple[str, ...]:
    """The devices of each worker's slot; empty where there are no GPUs to hand out.

    Args:
        devices: All there are.
        workers: How many slots.
        each: Devices a worker, no two workers sharing one; 0 hides all. None: one, and workers share where there
            are more workers than devices.

    Raises:
        UserError: Where there are too few.
    """
    if each is None:
        return tuple(devices[number % len(devices)] for number in range(workers)) if devices else ()
    if each * workers > len(devices):
        raise UserError(
            f"{workers} worker{'s' * (workers > 1)} with {each} GPU{'s' * (each > 1)} each need {each * workers}; "
            f"there are {len(devices)}", "gpus",
        )  # fmt: skip
    return tuple(",".join(devices[number * each : (number + 1) * each]) for number in range(workers))
