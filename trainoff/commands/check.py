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
            print(f"{'ok    ' if finding.ok else 'FAILED'}  {finding.name}: {finding.detail}")
        failed = sum(not finding.ok for finding in findings)
        print(f"{arguments.target}: {len(findings) - failed} of {len(findings)} checks passed")
    return int(any(not finding.ok for finding in findings))
