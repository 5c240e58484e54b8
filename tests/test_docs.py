"""What the documentation says is so: its snippets run, its tables are complete, its commands parse, its links lead."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import msgspec
import pytest
import yaml

import trainoff
from trainoff import Recipe, UserError, command_line
from trainoff.benchmarks import record as record_module
from trainoff.benchmarks.suite import parse_suite
from trainoff.catalogue import KINDS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "examples" / "README.md",
    *sorted(ROOT.glob("docs/*.md")),
]
_FENCE = re.compile(
    r"(?P<mark><!-- not run: (?P<reason>[^\n]+) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```", re.M | re.S
)
_MINIMAL = {
    "name": "snippet",
    "tasks": {"t": {"module": "classifier", "data": "digits", "metric": "accuracy", "budget": {"epochs": 1}}},
    "recipes": {"adamw": {}},
}


@dataclasses.dataclass(frozen=True)
class Snippet:
    page: Path
    line: int
    language: str
    code: str
    reason: str

    def __str__(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def snippets(language: str) -> list[Snippet]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            if match["language"] == language:
                line = text.count("\n", 0, match.start("code")) + 1
                found.append(Snippet(page, line, language, match["code"], match["reason"] or ""))
    return found


def python_parameters():
    """Snippets that start workers need a process of their own, and time: all but the README's are slow."""
    for snippet in snippets("python"):
        if snippet.reason:
            continue
        slow = starts_workers(snippet) and snippet.page.name != "README.md"
        yield pytest.param(snippet, id=str(snippet), marks=[pytest.mark.slow] if slow else [])


def starts_workers(snippet: Snippet) -> bool:
    return "trainoff.run(" in snippet.code or "compare_recipes(" in snippet.code


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A working directory with the user's project that the snippets import."""
    shutil.copy(ROOT / "examples" / "own_project.py", tmp_path / "my_project.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("my_project", None)


@pytest.mark.parametrize("snippet", list(python_parameters()))
def test_python_snippets_run(snippet, project):
    if not starts_workers(snippet):
        exec(compile(snippet.code, str(snippet), "exec"), {"__name__": "snippet"})
        return
    (project / "snippet.py").write_text(snippet.code)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "snippet.py"], cwd=project, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("snippet", snippets("yaml"), ids=str)
def test_yaml_snippets_are_suites(snippet, project):
    """A fragment with tasks or recipes alone is completed by a minimal suite."""
    data = yaml.safe_load(snippet.code)
    suite = parse_suite({**_MINIMAL, **data}, lambda *path: ".".join(map(str, path)))
    assert suite.tasks
    assert suite.recipes
    if len(data) > 1:
        assert set(_MINIMAL) <= set(data), "a snippet of several keys is a whole suite"


@pytest.mark.parametrize("snippet", snippets("console"), ids=str)
def test_console_lines_parse(snippet):
    for line in snippet.code.strip().splitlines():
        words = shlex.split(line)
        assert words[0] in ("trainoff", "make", "git", "pip"), line
        if words[0] == "make":
            assert words[1] in targets(), line
        elif words[:2] == ["trainoff", "fit"]:
            assert set(words[2::2]) == {"--help"} or all(word.startswith("--") for word in words[2::2]), line
        elif words[0] == "trainoff":
            given = words[1:]
            if given[0] == "plan":
                command_line._take_dotted(given)
            parser()[0].parse_args(given)


def test_commands_in_prose_exist():
    """Also `trainoff X` and `make X` in running text."""
    for page in [*PAGES, ROOT / "CHANGELOG.md", ROOT / "SECURITY.md"]:
        for command in re.findall(r"`trainoff ([a-z]+)\b", page.read_text(encoding="utf-8")):
            assert command in parser()[1], f"{page.name}: trainoff {command}"
        for target in re.findall(r"`make ([a-z-]+)`", page.read_text(encoding="utf-8")):
            assert target in targets(), f"{page.name}: make {target}"


def test_each_skipped_snippet_says_why():
    skipped = [
        snippet for language in ("python", "yaml", "console") for snippet in snippets(language) if snippet.reason
    ]
    assert [len(snippet.reason.split()) > 3 for snippet in skipped] == [True] * len(skipped)
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert text.count("<!-- not run:") == sum(bool(m["reason"]) for m in _FENCE.finditer(text)), page.name
        for match in _FENCE.finditer(text):
            assert match["language"] in ("python", "yaml", "console", "toml", "text"), f"{page.name}: {match[0][:80]}"


def test_readme_shows_the_two_commands_first():
    first = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:20]
    assert "make demo" in first
    assert "make test" in first


STRUCTS = [
    "Record", "TrialFacts", "Environment", "Scores", "Splits", "Quality", "Overfitting", "Cost", "Stability", "Curves",
    "Compression", "Failure",
]  # fmt: skip


@pytest.mark.parametrize("name", STRUCTS)
def test_records_page_lists_every_field(name):
    struct = getattr(record_module, name)
    assert first_column("records.md", name) == [field.name for field in msgspec.structs.fields(struct)]


def test_records_page_has_every_part():
    parts = [
        name
        for name, value in vars(record_module).items()
        if isinstance(value, type) and issubclass(value, record_module.Section) and name != "Section"
    ]
    assert sorted(parts) == sorted(STRUCTS)
    assert first_column("records.md", "Statuses") == list(get_args(record_module.Status))
    page = (ROOT / "docs" / "records.md").read_text(encoding="utf-8")
    assert f"this page is of version {record_module.SCHEMA_VERSION}" in page


def test_recipes_page_lists_every_field():
    assert first_column("recipes.md", "Fields") == [field.name for field in dataclasses.fields(Recipe)]


@pytest.mark.parametrize(
    ("section", "path"),
    [("The suite", ()), ("A task", ("tasks", "t")), ("A recipe", ("recipes", "adamw"))],
)
def test_suites_page_lists_every_key(section, path):
    """The keys that a refused one is answered with."""
    documented = first_column("suites.md", section)
    if section == "A recipe":
        documented = ["base", *first_column("recipes.md", "Fields")]
        assert first_column("suites.md", section) == ["base", "tune"]
    if section == "A task":
        known = keys_at(("tasks", "t", "budget"))
        assert documented[-len(known) :] == known
        documented = documented[: -len(known)]
    assert sorted(documented) == sorted(keys_at(path))


def keys_at(path: tuple[str, ...]) -> list[str]:
    """What the message about an unknown key at that place offers."""
    suite = yaml.safe_load(yaml.safe_dump(_MINIMAL))
    node = suite
    for part in path:
        node = node[part]
    node["zzzz"] = 1
    with pytest.raises(UserError) as caught:
        parse_suite(suite, lambda *place: ".".join(map(str, place)))
    return re.split(r", ", caught.value.message.split("there are ")[1])


def test_command_line_page_lists_every_command_and_option():
    arguments, commands = parser()
    assert first_column("command-line.md", "The command line", level=1) == [
        f"trainoff {command}" for command in commands
    ]
    for command, sub in subparsers(arguments).items():
        if command == "fit":
            continue
        options = {option for action in sub._actions for option in action.option_strings} - {"-h", "--help"}
        positionals = [str(action.metavar or action.dest) for action in sub._actions if not action.option_strings]
        rows = section_of("command-line.md", f"trainoff {command}")
        documented = set(re.findall(r"^\| `(--[\w-]+)`", rows, re.M))
        assert documented == options, command
        for name in positionals:
            assert f"`{name.upper()}`" in rows, f"{command}: {name}"


def test_formats_and_kinds_are_those_of_the_command_line():
    assert all(f"`{name}`" in section_of("command-line.md", "trainoff board") for name in command_line.FORMATS)
    documented = re.findall(
        r"`(\w+)`", section_of("command-line.md", "trainoff list").split("`KIND` |")[1].split("\n")[0]
    )
    assert documented == list(KINDS)


def test_documented_names_exist():
    """DataModules and modules of the pages' tables; not all that exist need a row."""
    for page, kind, column in (("datamodules.md", "datamodules", 2), ("modules.md", "modules", 2)):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        for row in re.findall(r"^\| `[A-Z]\w+` \| .*$", text, re.M):
            cells = [cell.strip().strip("`") for cell in row.strip("|").split("|")]
            entry = KINDS[kind][cells[column - 1]]
            assert entry.target.endswith(f":{cells[0]}")
            if kind == "datamodules" and entry.num_samples:  # else the user's files decide
                assert f"{entry.num_samples:,}" == cells[2]
                assert entry.input_shape == tuple(int(part) for part in re.findall(r"\d+", cells[3]))
    import inspect

    from trainoff.datamodules import TensorDataModule

    first = (ROOT / "docs" / "datamodules.md").read_text(encoding="utf-8").split("\n## ")[0]
    arguments = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", first, re.M)
    assert arguments == [name for name in inspect.signature(TensorDataModule.__init__).parameters if name != "self"]


def test_plugins_page_lists_every_group():
    documented = set(first_column("plug-ins.md", "By name, from an installed package"))
    assert documented == {registry.group for registry in KINDS.values() if registry.group}


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "CHANGELOG.md", ROOT / "SECURITY.md"], ids=lambda page: str(page.relative_to(ROOT))
)
def test_relative_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text)
    for target in targets:
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{page.name}: {target}"
        if anchor and place.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", place.read_text(encoding="utf-8"), re.M)
            assert anchor in [re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-") for h in headings], target


def test_pictures_are_small_and_whole():
    for scheme in ("light", "dark"):
        image = ROOT / "docs" / "images" / f"board-{scheme}.png"
        content = image.read_bytes()
        assert content.startswith(b"\x89PNG")
        assert content.endswith(b"IEND\xaeB`\x82")
        assert len(content) < 200_000


def test_navigation_is_whole():
    """mkdocs only notes a page that the navigation lacks."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = {page for entry in yaml.safe_load(text)["nav"] for page in entry.values()}
    assert named == {page.name for page in ROOT.glob("docs/*.md")} | {"methods/index.md"}


def test_each_argument_has_a_help():
    for command, sub in subparsers(parser()[0]).items():
        assert all(action.help for action in sub._actions), command


def test_citation_and_changelog_have_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == trainoff.__version__
    assert citation["authors"] == [{"name": "The trainoff authors"}]
    assert {"message", "title", "type"} <= set(citation)
    assert f"## [{trainoff.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_security_names_the_excluded_releases():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for version in ("2.6.2", "2.6.3"):
        assert f"!={version}" in project
        assert version in (ROOT / "SECURITY.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_site_builds_strictly(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert not re.search(r'(?:src|href)="(?:https?:)?//fonts', page), "the site asks for external fonts"


@pytest.mark.slow
def test_records_do_not_depend_on_the_number_of_workers(tmp_path):
    """As the page on determinism says: all but times, memory and the environment; and all recipes start alike."""
    from trainoff.benchmarks.store import RunFolder

    plain = []
    for workers in (1, 2):
        trainoff.run("smoke", out=tmp_path / str(workers), workers=workers)
        records, _ = RunFolder(tmp_path / str(workers)).read_all()
        plain.append({key: msgspec.to_builtins(without_times(record)) for key, record in records.items()})
    assert plain[0] == plain[1]
    starts = {
        (record["trial"]["seed"], record["trial"]["initial_state_digest"], record["trial"]["order_digest"])
        for record in plain[0].values()
    }
    assert len(starts) == len({seed for seed, _, _ in starts})


def without_times(record):
    record.environment = None
    record.curves.train_seconds = []
    for field in record.cost.__struct_fields__:
        if "second" in field or "memory" in field:
            setattr(record.cost, field, None)
    return record


def parser():
    return command_line._parser()


def subparsers(arguments):
    for action in arguments._actions:
        if hasattr(action, "choices") and isinstance(action.choices, dict):
            return action.choices
    raise AssertionError("the parser has no commands")


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))


def section_of(page: str, heading: str, level: int = 2) -> str:
    """The text under a heading until the next one of any level."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    match = re.search(rf"^{'#' * level} {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text, re.M | re.S)
    assert match, f"{page} has no heading '{heading}'"
    return match[1]


def first_column(page: str, heading: str, level: int = 2) -> list[str]:
    """The names in the first column of the tables of a section."""
    return re.findall(r"^\| \[?`([^`]+)`(?:\]\([^)]*\))? \|", section_of(page, heading, level), re.M)
