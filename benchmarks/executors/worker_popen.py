"""How the end of a worker becomes known to the process that asked for it."""

from __future__ import annotations

import multiprocessing.connection
import os
from multiprocessing import forkserver, popen_forkserver

from trainoff.benchmarks.executors.worker_processes import UNSEEN


class WorkerPopen(popen_forkserver.Popen):
    """As multiprocessing's own, which takes an end that nobody saw for exit status 255: a worker may end with that."""

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """The exit code; None while it lives, :data:`UNSEEN` where the fork server died before it could tell."""
        if self.returncode is None:
            if not multiprocessing.connection.wait([self.sentinel], 0 if flag == os.WNOHANG else None):
                return None
            try:
                self.returncode = forkserver.read_signed(self.sentinel)
            except (OSError, EOFError):
                self.returncode = UNSEEN
        return self.returncode
