"""Does a third party's optimizer, regularizer, net, DataModule or suite behave?

One file a kind, each a list of checks. :func:`check` runs them on a name or a class path and never ends in a
traceback: whatever a check raises is its finding.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from trainoff.benchmarks.conformance.findings import Finding
from trainoff.errors import UserError, closest

if TYPE_CHECKING:
    from collections.abc import Callable

_HOMES = {
    "optimizer": "optimizers",
    "regularizer": "regularizers",
    "net": "nets",
    "datamodule": "datamodules",
    "suite": "suites",
}

KINDS = tuple(_HOMES)

__all__ = ["KINDS", "Finding", "check"]


def check(kind: str, target: str) -> list[Finding]:
    """Check whether something behaves as trainoff expects of its kind.

    Optimizers, regularizers and nets are trained on scikit-learn's digits, on the CPU, for seconds; a DataModule is
    read a few times; each recipe of a suite makes one step on each of its tasks.

    Args:
        kind: ``optimizer``, ``regularizer``, ``net``, ``datamodule`` or ``suite``.
        target: A registered name or ``package.module.Class``; for a suite a name or the path of a YAML file.

    Returns:
        One finding a check, in the order in which they ran. A check that rests on one that failed is not run, and
        is named in the detail of that one.

    Raises:
        UserError: For an unknown kind, or a target that is not there.
    """
    if kind not in _HOMES:
        raise UserError(f"no kind is called '{kind}'{closest(kind, KINDS)}; there are {', '.join(KINDS)}")
    findings: Callable[[str], list[Finding]] = importlib.import_module(f"{__name__}.{_HOMES[kind]}").findings
    return findings(target)
