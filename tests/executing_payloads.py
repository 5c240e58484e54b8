"""Payloads for the local executor, and their outcomes."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainoff.benchmarks.executors.local import LocalExecutor, Outcome

LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


def double(value):
    return value * 2


def outcomes(function, payloads, workers=2, **arguments) -> dict[str, Outcome]:
    with LocalExecutor(function, workers, preload=(), **arguments) as executor:
        for number, payload in enumerate(payloads):
            executor.submit(str(number), payload)
        return {outcome.key: outcome for outcome in executor.completed()}
