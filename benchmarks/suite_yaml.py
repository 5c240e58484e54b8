"""Suite files: YAML as plain data, with the line of every key, and one line of explanation for anything wrong.

Scalars follow the core schema of YAML 1.2, not PyYAML's 1.1: ``1e-4`` is a float, ``no``, ``off``, ``1:30`` and
``2024-01-01`` are text, ``010`` is ten. Anchors and aliases work; merge keys (``<<``) are refused, because a line
that comes from elsewhere cannot be pointed at, and a recipe's ``base`` does the same. Nothing but plain data is made.
"""

from __future__ import annotations

import dataclasses
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from trainoff.errors import UserError, closest

MAX_BYTES = 1_000_000
MAX_DEPTH = 50
MAX_NODES = 100_000  # after aliases are expanded; a suite of a thousand recipes has about ten thousand

KeyPath = tuple[str | int, ...]


@dataclasses.dataclass(frozen=True)
class Document:
    """A YAML file as read.

    Args:
        path: The file, as the caller named it.
        data: Plain dictionaries with text keys, lists, text, numbers, booleans and ``None``.
        lines: Line (from 1) of every key and list item, by its path from the root; the root is ``()``.
    """

    path: str
    data: Any
    lines: dict[KeyPath, int]

    def where(self, *path: str | int) -> str:
        """Place of a key for an error message, such as ``suite.yaml:12: recipes.adamw.optimizer.lr``.

        A path that is not in the file gets the line of its nearest parent that is.
        """
        place = self.line(*path)
        return f"{place}: {_dotted(path)}" if path else place

    def line(self, *path: str | int) -> str:
        """File and line of a key, as in :meth:`where`."""
        while path not in self.lines:
            path = path[:-1]
        return f"{self.path}:{self.lines[path]}"


def read_yaml(path: str | os.PathLike[str]) -> Document:
    """Read a suite file.

    Args:
        path: A regular UTF-8 file of at most 1 MB that holds one YAML document.

    Raises:
        UserError: In one line, with the file and, where there is one, the line: for a file that is missing, is no
            regular file, is too large or not UTF-8; for a syntax error, no document or several, duplicate or
            non-text keys, merge keys, tags other than the core schema's, more than 50 levels, or more than 100,000
            values once aliases are expanded.
    """
    shown = os.fspath(path)
    text = _decode(_read(Path(path), shown), shown)
    try:
        root = _compose(text)
        construction = _Construction()
        data = None if root is None else construction.value(root, ())
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        code = error.character if isinstance(error.character, int) else ord(error.character)
        raise UserError(f"the character U+{code:04X} may not stand in YAML", f"{shown}:{line}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join((error.problem or error.context or "not YAML").split())
        raise UserError(reason, f"{shown}:{mark.line + 1}" if mark else shown) from error
    except RecursionError as error:
        raise UserError(_TOO_DEEP, shown) from error
    if data is None:
        raise UserError("the file is empty; a suite needs at least tasks and recipes", shown)
    return Document(shown, data, construction.lines)


def read_value(text: str, where: str) -> Any:
    """A value as a suite file would have it, such as an argument of the command line.

    Raises:
        UserError: Where it is not YAML.
    """
    try:
        root = _compose(text)
        return None if root is None else _Construction().value(root, ())
    except yaml.YAMLError as error:
        raise UserError(f"'{text}' is neither a name nor a value such as 0.1 or '{{name: mlp}}'", where) from error


def dump_yaml(data: Any) -> str:
    """Plain data as YAML that :func:`read_yaml` reads back equal, keys in their order and without aliases.

    Tuples become lists. Text that YAML 1.1 or 1.2 would take for something else is quoted.

    Raises:
        TypeError: For a value that is not plain data, or a key that is not text.
    """
    try:
        return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=119, line_break="\n")
    except yaml.representer.RepresenterError as error:
        raise TypeError(f"not plain data: {error.args[-1]!r}") from error


# --- the file ---------------------------------------------------------------------------------------------------


def _read(path: Path, shown: str) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise UserError("is a folder; name the YAML file in it", shown)
        if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device may never end
            raise UserError("is not a regular file", shown)
        if status.st_size <= MAX_BYTES:
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)  # it may have grown since
            if len(content) <= MAX_BYTES:
                return content
    except FileNotFoundError as error:
        raise UserError(f"no such file{_neighbours(path)}", shown) from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"cannot be read: {reason}", _shown(shown)) from error
    raise UserError(f"is larger than 1 MB; a suite has at most 1 MB ({MAX_BYTES:,} bytes)", shown)


def _neighbours(path: Path) -> str:
    try:
        names = [entry.name for entry in os.scandir(path.parent) if entry.name.endswith((".yaml", ".yml"))]
    except OSError:
        return f"; there is no folder {path.parent}"
    return closest(path.name, names)


def _decode(content: bytes, shown: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError("is not UTF-8 text; a suite is a YAML file in UTF-8", f"{shown}:{line}") from error


# --- text to nodes ----------------------------------------------------------------------------------------------

_TAG = "tag:yaml.org,2002:"
_TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"
_TOO_MANY = f"more than {MAX_NODES:,} values, aliases expanded"


def _integer(text: str) -> int:
    return int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))


# The core schema (YAML 1.2.2, section 10.3.2). Order counts: every integer would also match the float.
_SCALARS: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    "null": (r"~|null|Null|NULL|", "~nN", lambda text: None),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF", lambda text: text.lower() == "true"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789", _integer),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
        lambda text: float(text.lower().replace(".inf", "inf").replace(".nan", "nan")),
    ),
}


class _Loader(yaml.SafeLoader):
    """PyYAML's composer with the core schema, which stops as soon as a document is too deep or too large."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        self._nodes += 1
        if self._depth > MAX_DEPTH or self._nodes > 2 * MAX_NODES:  # twice: keys are nodes here
            problem = _TOO_DEEP if self._depth > MAX_DEPTH else _TOO_MANY
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=_next_mark(self))
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """PyYAML's dumper, which also quotes text that the core schema reads as a number."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_mapping(dumper: _Dumper, data: dict[Any, Any]) -> yaml.Node:
    for key in data:
        if not isinstance(key, str):
            raise TypeError(f"the key {key!r} is not text")
    return dumper.represent_dict(data)


def _represent_text(dumper: _Dumper, text: str) -> yaml.Node:
    # PyYAML writes U+0085, a line break to its reader, unescaped in every other style.
    style = None if text.replace("\n", "").isprintable() else '"'
    return dumper.represent_scalar(_TAG + "str", text, style=style)


# Only what the reader reads: no dates, bytes or sets. The entry None is what refuses everything else.
_PLAIN: tuple[Any, ...] = (bool, int, float, list, tuple, type(None), None)
_Dumper.yaml_representers = {kind: yaml.SafeDumper.yaml_representers[kind] for kind in _PLAIN}
_Dumper.add_representer(dict, _represent_mapping)
_Dumper.add_representer(str, _represent_text)
for _name, (_pattern, _first, _) in _SCALARS.items():
    for _class in (_Loader, _Dumper):
        # PyYAML matches from the start only; an empty scalar is looked up under ""; \Z because $ allows a line break.
        _characters = [*_first, ""] if _name == "null" else list(_first)
        _class.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), _characters)


def _next_mark(loader: _Loader) -> yaml.Mark:
    return loader.peek_event().start_mark  # type: ignore[no-any-return, no-untyped-call]


def _compose(text: str) -> yaml.Node | None:
    """The root of the only document; None where there is none."""
    loader = _Loader(text)
    try:
        node = loader.get_node() if loader.check_node() else None
        if loader.check_node():
            problem = "a second document begins; a suite is one"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=_next_mark(loader))
        return node
    finally:
        loader.dispose()


# --- nodes to data ----------------------------------------------------------------------------------------------


class _Construction:
    """The walk that turns nodes into data and notes the line of each path."""

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._open: set[int] = set()

    def value(self, node: yaml.Node, path: KeyPath, line: int | None = None) -> Any:
        """The data of a node; ``line`` (from 1) is that of its key, else its own."""
        self.lines[path] = line or node.start_mark.line + 1
        if len(self.lines) > MAX_NODES:
            raise _problem(_TOO_MANY, node)
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if id(node) in self._open:
            raise _problem(f"{_dotted(path)} refers to something that contains it", node)
        if len(path) >= MAX_DEPTH:
            raise _problem(_TOO_DEEP, node)
        self._open.add(id(node))
        made = self._mapping(node, path) if isinstance(node, yaml.MappingNode) else self._sequence(node, path)
        self._open.remove(id(node))
        return made

    def _sequence(self, node: yaml.Node, path: KeyPath) -> list[Any]:
        _expect_tag(node, "seq")
        return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        _expect_tag(node, "map")
        made: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            place = (*path, key)
            if key in made:
                raise _problem(f"{_dotted(place)} stands here and in line {self.lines[place]}", key_node)
            made[key] = self.value(value_node, place, key_node.start_mark.line + 1)
        return made

    def _key(self, node: yaml.Node, path: KeyPath) -> str:
        key = _scalar(node) if isinstance(node, yaml.ScalarNode) else node
        if not isinstance(key, str):
            inside = f" in {_dotted(path)}" if path else ""
            if isinstance(node, yaml.ScalarNode):
                raise _problem(f'the key {_shown(node.value)}{inside} is not text; write "{_shown(node.value)}"', node)
            raise _problem(f"a key{inside} is a list or a mapping; keys are text", node)
        if key == "<<":
            raise _problem(
                "merge keys (<<) are not read; name a recipe's model with base, or write the keys out", node
            )
        return key


def _scalar(node: yaml.ScalarNode) -> Any:
    kind = node.tag.removeprefix(_TAG)
    if node.tag == _TAG + "str":
        if re.search("[\ud800-\udfff]", node.value):  # from an escape; no file could hold it again
            raise _problem("half of a surrogate pair is no character", node)
        return node.value
    if kind == node.tag or kind not in _SCALARS:
        raise _tag_problem(node)
    pattern, _, convert = _SCALARS[kind]
    if not re.fullmatch(pattern, node.value):  # an explicit tag on something else
        raise _problem(f"{_shown(node.value)} is not of the type {kind}", node)
    try:
        return convert(node.value)
    except ValueError as error:  # Python refuses to read integers of thousands of digits
        raise _problem(f"{_shown(node.value)} has too many digits", node) from error


def _expect_tag(node: yaml.Node, kind: str) -> None:
    if node.tag != _TAG + kind:
        raise _tag_problem(node)


def _tag_problem(node: yaml.Node) -> yaml.MarkedYAMLError:
    tag = node.tag.replace(_TAG, "!!", 1)
    return _problem(f"the tag {_shown(tag)} is not read; a suite holds plain data only", node)


def _problem(message: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=message, problem_mark=node.start_mark)


def _shown(text: str) -> str:
    """Text for a message: one line of at most 60 characters, whatever it holds."""
    printable = text if text.isprintable() else repr(text)[1:-1]
    return printable if len(printable) <= 60 else printable[:57] + "..."


def _dotted(path: KeyPath) -> str:
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{_shown(key)}" for key in path)
    return text.removeprefix(".")
