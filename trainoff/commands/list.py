"""``trainoff list``."""

from __future__ import annotations

import argparse
import json

from trainoff.catalogue import KINDS, registry_of
from trainoff.output import print_document
from trainoff.registry import Entry


def command(arguments: argparse.Namespace) -> None:
    """Print the names of a kind with their summaries, or the kinds."""
    kinds = KINDS if arguments.kind is None else {arguments.kind: registry_of(arguments.kind)}
    if arguments.json:
        rows = [_row(kind, entry) for kind, registry in kinds.items() for entry in registry]
        print_document(json.dumps(rows, indent=1, ensure_ascii=False))
    elif arguments.kind is None:
        for kind, registry in kinds.items():
            print(f"{kind} ({len(registry)}): {_shortened(registry.names())}")
        print("\ntrainoff list KIND says what each is; trainoff show NAME says more.")
    else:
        entries = list(registry_of(arguments.kind))
        width = max(len(entry.name) for entry in entries)
        for entry in entries:
            note = f" [{entry.package}]" if entry.package else ""
            note += " (guaranteed)" if getattr(entry, "guaranteed", False) else ""
            unsupported = getattr(entry, "unsupported", "")
            note += f" (not offered: {unsupported})" if unsupported else ""
            print(f"{entry.name:<{width}}  {entry.summary}{note}")
            if details := getattr(entry, "details", ""):
                print(f"{'':<{width}}  {details}")


def _row(kind: str, entry: Entry) -> dict[str, str]:
    return {
        "kind": kind,
        "name": entry.name,
        "summary": entry.summary,
        "formula": entry.formula,
        "paper": entry.paper,
        "package": entry.package,
        **({"details": entry.details} if hasattr(entry, "details") else {}),
    }


def _shortened(names: list[str], most: int = 20) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f", and {rest} more" if rest > 0 else "")
