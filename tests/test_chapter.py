"""The pages about the textbook chapter: each command and each test that they name exists, no row is without either."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from trainoff import command_line
from trainoff.benchmarks.suite_registry import SUITES
from trainoff.catalogue import KINDS, find, registry_of

ROOT = Path(__file__).resolve().parents[1]
ABSENT = "not here yet"
# Of what a reference is about, where it is not here yet: once there is something of that name, its row is out of date.
AWAITED = ["seq2seq", "seq2seq_lstm", "gan", "dcgan", "alexnet", "googlenet", "transformer", "bert", "tcn",
           "se_resnet50", "densenet121", "ewc", "kahan_sgd", "dynamic_network_surgery", "synflow",
           "progressive_shrinking", "gradual"]  # fmt: skip


def rows(page: str) -> list[tuple[str, list[str]]]:
    """The cells of each row of each table, after the table's own heading."""
    found = []
    for line in (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("|") and not set(line) <= set("|-"):
            found.append((line, cells))
    return [row for row in found if row[1][0] not in ("§", "#", "formula", "the chapter's question")]


PAGES = ["chapter.md", "references.md"]
ROWS = [(page, line, cells) for page in PAGES for line, cells in rows(page)]


def commands(line: str) -> list[list[str]]:
    return [shlex.split(command)[1:] for command in re.findall(r"`(trainoff [^`]+)`", line)]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_exists_and_shows_something(page):
    parser = command_line._parser()[0]
    for _, line, _ in (row for row in ROWS if row[0] == page):
        for words in commands(line):
            parsed = parser.parse_args(words)
            if words[0] == "show":
                assert find(parsed.name)
            elif words[0] == "list":
                assert registry_of(words[1]) in KINDS.values()
            elif words[0] == "run" and not words[1].endswith(".yaml"):
                assert words[1] in SUITES, line


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_is_named_exists(page):
    for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / page).read_text(encoding="utf-8")):
        assert re.search(rf"^def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.M), f"{file}::{name}"


def test_every_section_has_a_command_or_says_that_there_is_nothing_yet():
    for page, line, cells in ROWS:
        if cells[1] != "cut off in the text":
            assert commands(line) or ABSENT in line or ".md" in line or "see 3" in line, f"{page}: {line}"


def test_every_section_that_has_a_command_has_a_test():
    sections = [cells for _, _, cells in ROWS if re.match(r"[1-5](\.|$)", cells[0]) and len(cells) == 4]
    assert len(sections) >= 17
    for section, says, here, held_by in sections:
        assert "tests/" in held_by or "see 3" in held_by or here == ABSENT, (section, says)


def test_forty_references_are_there():
    numbers = set()
    for _, cells in rows("references.md"):
        for part in cells[0].split(", "):
            first, _, last = part.partition("–")
            numbers |= set(range(int(first), int(last or first) + 1))
    assert numbers == set(range(1, 41))


def test_what_is_here_is_not_said_to_be_missing():
    known = {name for registry in KINDS.values() for name in registry.names()}
    text = "\n".join((ROOT / "docs" / page).read_text(encoding="utf-8") for page in PAGES)
    assert [name for name in AWAITED if name in known and f"trainoff show {name}" not in text] == []
