"""Leaving torch's process group in order."""

from __future__ import annotations

import atexit

import torch.distributed


def destroy_process_group_at_exit() -> None:
    """Have this process leave its process group before the interpreter ends; without one nothing happens.

    Lightning sees to it for NCCL alone. A thread of gloo that outlives the interpreter may ask for its lock, and the
    process, whose work is done, then ends by SIGABRT ("terminate called without an active exception").
    """
    atexit.unregister(_destroy)  # once, however often it is asked for
    atexit.register(_destroy)


def _destroy() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
