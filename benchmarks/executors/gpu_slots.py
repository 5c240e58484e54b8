"""Which GPUs a worker sees: each takes a free slot when it starts, and holds it for as long as it lives.

A slot is an abstract socket's name (Linux), which one process at a time can have. The kernel frees it with its holder,
however that ends: a worker's successor finds it free without anybody keeping books, and no file is left.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from dataclasses import dataclass

from trainoff.errors import UserError

VISIBLE = "CUDA_VISIBLE_DEVICES"
_SECONDS_TO_WAIT = 60.0  # for the slot of a worker that is just ending

_held: list[socket.socket] = []


def _close_in_child() -> None:
    # A DataLoader's worker may outlive its parent for some seconds.
    for held in _held:
        held.close()
    _held.clear()


@dataclass(frozen=True)
class GpuSlots:
    """Slots that workers take, one each.

    Args:
        name: Of these slots, unlike any other's on this machine.
        groups: Of each slot, the devices as ``CUDA_VISIBLE_DEVICES`` names them.
    """

    name: str
    groups: tuple[str, ...]

    def take(self) -> str:
        """Take a free slot for this process; its devices.

        Raises:
            RuntimeError: Where none became free.
        """
        deadline = time.monotonic() + _SECONDS_TO_WAIT
        while time.monotonic() < deadline:
            for number, devices in enumerate(self.groups):
                made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                try:
                    made.bind(f"\0trainoff-gpus-{self.name}-{number}")
                except OSError:  # another worker has it
                    made.close()
                    continue
                if not _held:
                    os.register_at_fork(after_in_child=_close_in_child)
                _held.append(made)
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
