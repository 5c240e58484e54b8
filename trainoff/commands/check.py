"""``trainoff check``."""

from __future__ import annotations

import argparse
import dataclasses
import json


def command(arguments: argparse.Namespace) -> int:
    """Print what each check found; the status is 1 where one failed."""
    from trainoff.benchmarks.conformance import check

    findings = check(arguments.kind, arguments.target)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=1, ensure_ascii=False))
    else:
        for finding in findings:
            state = "FAILED" if not finding.ok else "ok" if finding.offered else "-"
            print(f"{state:6}  {finding.name}: {finding.detail}")
        asked = [finding for finding in findings if finding.offered]
        rest = f", {len(findings) - len(asked)} not offered" if len(asked) < len(findings) else ""
        passed = sum(finding.ok for finding in asked)
        print(f"{arguments.target}: {passed} of {len(asked)} checks passed{rest}")
    return int(any(not finding.ok for finding in findings))
