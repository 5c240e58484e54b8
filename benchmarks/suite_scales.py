"""A suite's other sizes: ``scales: {full: ...}`` says what differs, as one changes a recipe by ``base``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from trainoff.benchmarks.suite_values import mapping
from trainoff.benchmarks.suite_yaml import Document, KeyPath
from trainoff.benchmarks.tuning import Where
from trainoff.errors import UserError, closest

_LIMITS = ("time_limit", "memory_limit", "checkpoint_every", "timing")
_KEYS = ("summary", "seeds", "tuning", "baseline", "tasks", "recipes", *_LIMITS)
_NAMED = ("tasks", "recipes")  # mappings of names, which are changed name by name


def check_scales(value: Any, where: Where) -> None:
    """Refuse scales that are not mappings of what a suite has.

    Raises:
        UserError: With the place.
    """
    for scale, changes in mapping(value, ("scales",), where).items():
        mapping(changes, ("scales", scale), where, _KEYS)
        for kind in _NAMED:
            for name, fields in mapping(changes.get(kind, {}), ("scales", scale, kind), where).items():
                if fields is not None:
                    mapping(fields, ("scales", scale, kind, name), where)


def at_scale(data: Any, scale: str, where: Where) -> dict[str, Any]:
    """The suite at one of its scales, by the name ``<suite>-<scale>``.

    A key of the scale replaces the suite's. Of tasks and recipes those that the scale names are changed, field by
    field: a field replaces the whole field, and ``null`` in place of a task or recipe leaves it out.

    Args:
        data: The suite as plain data.
        scale: A key of its ``scales``.
        where: Names the place of a path, for messages.

    Raises:
        UserError: Where the suite has no such scale.
    """
    suite = dict(mapping(data, (), where))
    scales = suite.pop("scales", None) or {}
    check_scales(scales, where)
    if scale not in scales:
        there = f"; there are {', '.join(scales)}" if scales else "; this suite has one size"
        raise UserError(f"no scale is called '{scale}'{closest(scale, scales)}{there}", "--scale")
    changes = scales[scale]
    for key, value in changes.items():
        suite[key] = _changed(suite.get(key, {}), value) if key in _NAMED else value
    suite["name"] = f"{suite.get('name')}-{scale}"
    return suite


def _changed(named: Any, changes: Mapping[str, Any]) -> Any:
    result = dict(named) if isinstance(named, Mapping) else {}
    for name, fields in changes.items():
        if fields is None:
            result.pop(name, None)
        else:
            result[name] = {**(result.get(name) or {}), **fields}
    return result


def document_at_scale(document: Document, scale: str) -> Document:
    """The file as if it had been written at that scale; each key has the line where it stands.

    Raises:
        UserError: Where the suite has no such scale.
    """
    data = at_scale(document.data, scale, document.where)
    lines: dict[KeyPath, int] = {path: line for path, line in document.lines.items() if path[:1] != ("scales",)}
    for path, line in document.lines.items():
        if path[:2] == ("scales", scale) and len(path) > 2:
            lines[path[2:]] = line
    return dataclasses.replace(document, data=data, lines=lines)
