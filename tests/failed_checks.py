"""Which conformance checks something fails."""

from __future__ import annotations

from trainoff.benchmarks.conformance import check


def failed(kind, target):
    """The names of the failed checks; a class is given by its path."""
    path = target if isinstance(target, str) else f"{target.__module__}.{target.__name__}"
    return {finding.name for finding in check(kind, path) if not finding.ok}
