"""Folders that are full or forbidden, for root too."""

from __future__ import annotations

import os
import subprocess


def mounted(folder, options):
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    return done.returncode == 0


def forbidden(folder, is_forbidden):
    """Root writes whatever the mode says; an immutable folder stops root too."""
    if os.geteuid():
        folder.chmod(0o500 if is_forbidden else 0o700)
        return True
    sign = "+i" if is_forbidden else "-i"
    try:
        return subprocess.run(["chattr", sign, str(folder)], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
