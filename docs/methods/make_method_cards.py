"""Write the method cards, one page a method and an index, from the registries and measured.json.

`python docs/methods/make_method_cards.py`; measure_methods.py makes measured.json.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainoff.catalogue import KINDS
from trainoff.commands.show import facts_of
from trainoff.leaderboards.numbers import decimals, number
from trainoff.registry import Entry

HERE = Path(__file__).resolve().parent
# The kinds that have cards: what one is called, and how a recipe says it.
CARDS = {
    "optimizers": ("optimizer", "optimizer: {choice}"),
    "schedules": ("schedule", "schedule: {choice}"),
    "regularizers": ("regularizer", "regularizers: [{choice}]"),
    "initialisations": ("initialisation", "initialisation: {choice}"),
    "pruning": ("pruning method", "pruning: {choice}"),
    "batch_regimes": ("batch regime", ""),
}
_BASELINE = "is what the baseline has"
NOT_MEASURED = {
    "optimizers.adamw": _BASELINE,
    "schedules.constant": _BASELINE,
    "initialisations.default": _BASELINE,
    "batch_regimes.mini_batch": _BASELINE,
    "initialisations.xavier": "is another name of xavier_uniform",
    "initialisations.kaiming": "is another name of kaiming_normal",
    "initialisations.lecun": "is another name of lecun_normal",
    "regularizers.r1": "is another name of gradient_penalty",
    "regularizers.ewc": "acts from the second fit on, and these tasks have one",
    "regularizers.distillation": "needs a trained teacher",
    "optimizers.kron": "takes minutes a trial here, where the baseline takes a second",
}
_SHOWN_APART = {"name", "what", "formula", "paper", "arguments", "recipe"}


def cards() -> dict[str, tuple[str, Entry]]:
    """Kind and entry of each method that has a card, by `kind.name`; an installed plug-in's has none."""
    return {f"{kind}.{entry.name}": (kind, entry) for kind in CARDS for entry in KINDS[kind].shipped()}


def reason_not_measured(key: str, entry: Entry) -> str:
    """Why a method has no numbers; empty where it should have some."""
    unsupported = getattr(entry, "unsupported", "")
    return f"is not offered: {unsupported}" if unsupported else NOT_MEASURED.get(key, "")


def page(key: str, kind: str, entry: Entry, measured: Mapping[str, Any]) -> str:
    """A method's card in Markdown."""
    facts = facts_of(kind, entry)
    title, written = CARDS[kind]
    lines = [f"# {entry.name}", "", f"*{title[0].upper()}{title[1:]}.* {_sentence(entry.summary)}", ""]
    if entry.formula:
        lines += [f"    {entry.formula}", ""]
    if entry.paper:
        lines += [f"Source: {_escaped(entry.paper)}.", ""]
    traits = [
        f"{label}: {_trait_text(label, value)}"
        for label, value in facts.items()
        if value and label not in _SHOWN_APART
    ]
    if traits:
        lines += [f"- {trait}" for trait in traits] + [""]
    lines += ["## In a recipe", "", "```text", facts.get("recipe") or written.format(choice=entry.name), "```", ""]
    arguments = facts.get("arguments", {})
    if arguments:
        lines += ["| argument | default |", "|---|---|"]
        lines += [f"| `{name}` | `{_cell(default)}` |" for name, default in arguments.items()] + [""]
    lines += ["## Measured", "", *_measured(key, entry, measured)]
    return "\n".join(lines).rstrip() + "\n"


def _trait_text(label: str, value: Any) -> str:
    if label == "guaranteed":
        return "tests hold that it resumes exactly and trains in bf16"
    return f"`{value}`" if label == "class" else _escaped(str(value))


def _measured(key: str, entry: Entry, measured: Mapping[str, Any]) -> list[str]:
    reason = reason_not_measured(key, entry)
    results = measured["methods"].get(key)
    if reason or results is None:
        return [f"Not measured: it {reason or 'has not been run yet'}."]
    lines = [_verdict(results, measured["tasks"]), ""]
    lines += ["| task | test metric | gap | training time | chosen |", "|---|---|---|---|---|"]
    for task, facts in results.items():
        lines.append(
            f"| {task} | {_change_text(facts['metric'])} | {_change_text(facts['gap'])} | "
            f"{_ratio_text(facts['log_seconds'])} | {_chosen_text(facts)} |"
        )
    lines += [
        "",
        "Changes against the [baseline](../index.md#how-it-was-measured) on the same seeds, with 95 % intervals.",
    ]
    return lines


def _verdict(results: Mapping[str, Any], tasks: Mapping[str, Any]) -> str:
    """In which direction each task's interval lies, in a sentence or two."""
    found: dict[str, list[str]] = {"better": [], "worse": [], "open": [], "failed": []}
    for task, facts in results.items():
        found[outcome(facts, tasks[task]["mode"])].append(task)
    said = []
    if found["better"]:
        said.append(f"Better than the baseline on {' and '.join(found['better'])}.")
    if found["worse"]:
        said.append(f"Worse than the baseline on {' and '.join(found['worse'])}.")
    if found["open"]:
        said.append(f"No change that these seeds can tell on {' and '.join(found['open'])}.")
    if found["failed"]:
        said.append(f"No result on {' and '.join(found['failed'])}: too many seeds failed.")
    if not found["better"]:
        said.insert(0, "It did not help here.")
    return " ".join(said)


def outcome(facts: Mapping[str, Any], mode: str) -> str:
    """Whether the interval of the change in the test metric is on the `better` or the `worse` side of 0, or `open`."""
    if facts["metric"] is None or facts["metric"][1] is None:
        return "failed"
    mean, margin, _ = facts["metric"]
    if abs(mean) <= margin:
        return "open"
    return "better" if (mean > 0) == (mode == "max") else "worse"


def _change_text(value: list[Any] | None) -> str:
    if value is None:
        return "–"
    mean, margin, count = value
    if not margin:
        return f"{mean:+.4g}" + (f" ({count} seeds, no interval)" if margin is None else " ± 0")
    place = max(0, decimals(margin))
    return f"{mean:+.{place}f} ± {margin:.{place}f}"


def _ratio_text(value: list[Any] | None) -> str:
    """A mean logarithm of a ratio as the ratio with its interval."""
    if value is None:
        return "–"
    mean, margin, _ = value
    text = f"× {number(math.exp(mean))}"
    return (
        text if margin is None else f"{text} ({number(math.exp(mean - margin))} to {number(math.exp(mean + margin))})"
    )


def _chosen_text(facts: Mapping[str, Any]) -> str:
    chosen = ", ".join(f"{key.rsplit('.', 1)[-1]} {_value_text(value)}" for key, value in facts["tuned"].items())
    failed = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in facts.get("failed", {}).items())
    return "; ".join(filter(None, [chosen, f"seeds failed: {failed}" if failed else ""])) or "–"


def _value_text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def index(measured: Mapping[str, Any]) -> str:
    """The table of all methods, and how they were measured."""
    tasks = list(measured["tasks"])
    common = [task for task in tasks if "resnet" not in task]
    lines = ["# Method cards", "", _INTRODUCTION, "", "## How it was measured", "", *_conditions(measured), ""]
    for kind in CARDS:
        lines += [f"## {kind.replace('_', ' ').capitalize()}", ""]
        lines += ["| method | what it does | " + " | ".join(common) + " |", "|---|---|" + "---|" * len(common)]
        for key, (its_kind, entry) in cards().items():
            if its_kind != kind:
                continue
            results = {} if reason_not_measured(key, entry) else measured["methods"].get(key, {})
            cells = [_index_cell(results.get(task), measured["tasks"][task]["mode"]) for task in common]
            link = f"[{entry.name}]({kind}/{entry.name}.md)"
            lines.append(f"| {link} | {_escaped(entry.summary)} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


_INTRODUCTION = """\
One page a method: what it does, its arguments, its source, and what it changed on two small tasks. The pages are
written by `docs/methods/make_method_cards.py` from the registries and from the records of the shipped suites
`method-cards` and `method-cards-residual`. The tables below show the change in the test metric; **bold** where its
95 % interval leaves out 0. Of so many methods one in twenty would be bold by chance, and two small tasks say little
about a large one: run your own suite. The machine did other work at times, so that the times are rough."""


def _index_cell(facts: Mapping[str, Any] | None, mode: str) -> str:
    if facts is None:
        return "–"
    text = _change_text(facts["metric"])
    return f"**{text}**" if outcome(facts, mode) in ("better", "worse") else text


def _conditions(measured: Mapping[str, Any]) -> list[str]:
    if not measured["tasks"]:
        return ["Nothing was measured yet."]
    first = next(iter(measured["tasks"].values()))
    packages = ", ".join(f"{name} {version}" for name, version in sorted(first["packages"].items()))
    lines = [
        "The baseline is AdamW at a constant rate with batches of 64. Each recipe tries up to "
        f"{first['settings']} settings of its rate, and of its own strength where it has one, on one seed, and the "
        "one with the best validation metric goes on to eight others. A change is the mean over those seeds of the "
        "method's number minus the baseline's on the same seed, ± half of its 95 % t interval; that of time is the "
        "geometric mean of the ratios. Gap is train minus test metric at the last epoch: less is better. Times were "
        "taken with "
        f"{first['trials_beside'] + 1} trials at a time on {first['hardware']} with {packages}.",
        "",
        "| task | net | data | epochs | metric | baseline | its setting |",
        "|---|---|---|---|---|---|---|",
    ]
    for task, facts in measured["tasks"].items():
        config = facts["config"]
        chosen = ", ".join(f"{key.rsplit('.', 1)[-1]} {_value_text(value)}" for key, value in facts["tuned"].items())
        net, data = (_choice_text(choice) for choice in (config["module"]["net"], config["data"]))
        mean, margin, _ = facts["baseline"]
        lines.append(
            f"| {task} | {net} | {data} | {config['budget']['epochs']} | {facts['metric']} | "
            f"{mean:.4f} ± {margin:.4f} | {chosen} |"
        )
    return lines


def _choice_text(choice: Any) -> str:
    if isinstance(choice, str):
        return choice
    arguments = ", ".join(f"{key} {value}" for key, value in choice.items() if key != "name")
    return f"{choice['name']} ({arguments})" if arguments else str(choice["name"])


def _sentence(text: str) -> str:
    text = _escaped(text)
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _escaped(text: str) -> str:
    """Text whose signs are not Markdown's."""
    for sign in "\\*_[]|<>":
        text = text.replace(sign, "\\" + sign)
    return text


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def pages(measured: Mapping[str, Any]) -> dict[Path, str]:
    """Every page by its path below docs/methods."""
    made = {
        Path(kind) / f"{entry.name}.md": page(key, kind, entry, measured) for key, (kind, entry) in cards().items()
    }
    return {Path("index.md"): index(measured), **made}


def read_measured() -> dict[str, Any]:
    """The committed numbers."""
    found: dict[str, Any] = json.loads((HERE / "measured.json").read_text(encoding="utf-8"))
    return found


def main() -> None:
    """Write all pages anew; those of methods that are gone go too."""
    made = pages(read_measured())
    for kind in CARDS:
        shutil.rmtree(HERE / kind, ignore_errors=True)
    for path, text in made.items():
        target = HERE / path
        target.parent.mkdir(exist_ok=True)
        target.write_text(text, encoding="utf-8")
    print(f"{len(made)} pages in {HERE.name}")


if __name__ == "__main__":
    main()
