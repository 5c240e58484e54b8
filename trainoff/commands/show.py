"""``trainoff show``."""

from __future__ import annotations

import argparse
import inspect
import json
from typing import Any

from trainoff.benchmarks.suite_yaml import read_yaml
from trainoff.catalogue import find
from trainoff.modules.schedules import ScheduleEntry
from trainoff.output import print_document
from trainoff.registry import Entry

# What trainoff passes itself.
_GIVEN = {
    "params",
    "module",
    "model",
    "optimizer",
    "base_optimizer",
    "num_iterations",
    "input_shape",
    "output_size",
    "self",
}
# What recipes take for an optimizer's needs, beside the arguments of its class.
_FOR_NEEDS = {
    "base_optimizer": {"base_optimizer": "'adamw'", "lr": "the base optimizer's"},
    "matrices": {"auxiliary": "'adamw'"},
}


def command(arguments: argparse.Namespace) -> None:
    """Print what a name does, its formula, its arguments and defaults, and its paper."""
    found = find(arguments.name)
    if arguments.json:
        print_document(json.dumps([facts_of(kind, entry) for kind, entry in found], indent=1, ensure_ascii=False))
        return
    for kind, entry in found:
        for key, value in facts_of(kind, entry).items():
            if key == "arguments":
                for name, default in value.items():
                    print(f"  {name}: {default}")
            elif value:
                print(value if key == "name" else f"{key}: {value}")
        _print_plot(entry)
        print()


def _print_plot(entry: Entry) -> None:
    """The rate over time, for a schedule that is a function of the step alone."""
    if not isinstance(entry, ScheduleEntry):
        return
    schedule = entry.load()
    if hasattr(schedule, "factor"):
        from trainoff.commands.schedule_plot import plot_schedule

        print("share of the base rate, with the defaults:")
        print("\n".join(plot_schedule(schedule(), entry.interval)))


def facts_of(kind: str, entry: Entry) -> dict[str, Any]:
    """What is printed of an entry, by label; the arguments are a mapping of names to defaults."""
    facts: dict[str, Any] = {"name": f"{entry.name} ({kind})", "what": entry.summary}
    facts |= {"formula": entry.formula, "paper": entry.paper, "package": entry.package}
    traits = (
        "costs",
        "acts_on",
        "recipe",
        "net",
        "inputs",
        "tiny",
        "interval",
        "needs",
        "guaranteed",
        "licence",
        "num_samples",
        "num_classes",
        "size_bytes",
    )
    for trait in traits:
        value = getattr(entry, trait, None)
        if value:
            facts[trait.replace("_", " ")] = ", ".join(sorted(value)) if isinstance(value, frozenset) else value
    if getattr(entry, "unsupported", ""):
        facts["not offered"] = entry.unsupported  # type: ignore[attr-defined]
    if kind == "suites":
        path = entry.load()
        scales = read_yaml(path).data.get("scales", {})
        facts |= {"file": str(path), "scales": ", ".join(scales)}
        return facts
    if not entry.target:
        return facts
    target = entry.load()
    facts["class"] = entry.target.replace(":", ".")
    facts["arguments"] = _arguments(target)
    for need in getattr(entry, "needs", ()):
        facts["arguments"] |= _FOR_NEEDS.get(need, {})
    if kind == "schedules":
        facts["arguments"] |= {"warmup": "0 (a share below 1, or steps)", "interval": f"'{entry.interval}'"}  # type: ignore[attr-defined]
    return facts


def _arguments(target: Any) -> dict[str, str]:
    shown = {}
    for name, parameter in inspect.signature(target).parameters.items():
        if name in _GIVEN or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        shown[name] = "required" if parameter.default is parameter.empty else _default_text(parameter.default)
    return shown


def _default_text(default: Any) -> str:
    """As written; of a function its name, as its repr has an address."""
    return str(default.__name__) if inspect.isroutine(default) else repr(default)
