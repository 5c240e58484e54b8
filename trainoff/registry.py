"""Names for everything that can be chosen: shipped entries, third parties' entry points, and class paths.

A registry is data. Listing one imports nothing; a class is imported when it is resolved.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from trainoff.errors import UserError, closest


@dataclass(frozen=True)
class Entry:
    """One name of a registry.

    Args:
        name: The short lower-case name that recipes and suites use.
        target: Where the thing lives, as ``package.module:attribute``; empty for what is no thing to import.
        summary: One line for ``trainoff list``.
        formula: The formula as plain text, for ``trainoff show``.
        paper: Author, year, title or identifier.
        package: The distribution that brings the entry; empty for what is shipped.
    """

    name: str
    target: str
    summary: str = ""
    formula: str = ""
    paper: str = ""
    package: str = ""

    def load(self) -> Any:
        """Import the target. Raises :class:`UserError` where its package is missing or lacks the attribute."""
        module, _, attribute = self.target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise UserError(f"'{self.name}' needs the package '{error.name}', which is not installed") from error
        except AttributeError as error:
            raise UserError(f"'{self.name}' is not in the installed version of '{module}'") from error


# Covariant: a registry is only read from outside.
AnyEntry = TypeVar("AnyEntry", bound=Entry, covariant=True)


class Registry(Generic[AnyEntry]):
    """The entries of one kind, shipped ones first, then those that installed packages register.

    Args:
        kind: What the entries are, in the singular, for messages ("optimizer").
        entries: The shipped entries.
        entry_type: The class that describes a third party's entry, built with its name, target and package.
        group: The entry-point group that third parties register under; empty where they cannot.
    """

    def __init__(self, kind: str, entries: Iterable[AnyEntry], entry_type: type[AnyEntry], group: str) -> None:
        self.kind = kind
        self.group = group
        self._entry_type = entry_type
        self._shipped: dict[str, AnyEntry] = {}
        for entry in entries:
            if entry.name in self._shipped:
                raise ValueError(f"the {kind} '{entry.name}' is registered twice")
            self._shipped[entry.name] = entry

    @cached_property
    def _all(self) -> dict[str, AnyEntry]:
        found = dict(self._shipped)
        for point in entry_points(group=self.group):
            package = point.dist.name if point.dist else ""
            if point.name in found:
                owner = found[point.name].package or "trainoff"
                warnings.warn(
                    f"the {self.kind} '{point.name}' of package '{package}' is ignored: {owner} has that name",
                    stacklevel=2,
                )
                continue
            found[point.name] = self._entry_type(
                name=point.name, target=point.value, summary=f"from the package {package}", package=package
            )
        return found

    def __iter__(self) -> Iterator[AnyEntry]:
        return iter(self._all.values())

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, name: object) -> bool:
        return name in self._all

    def __getitem__(self, name: str) -> AnyEntry:
        try:
            return self._all[name]
        except KeyError:
            raise UserError(f"no {self.kind} is called '{name}'{closest(name, self._all)}") from None

    def names(self) -> list[str]:
        """All names, shipped ones first."""
        return list(self._all)

    def shipped(self) -> list[AnyEntry]:
        """The entries that trainoff brings; asks no installed package."""
        return list(self._shipped.values())

    def load(self, choice: Mapping[str, Any]) -> Any:
        """The class or function that a normalised choice names, by ``name`` or by ``class_path``."""
        if "class_path" in choice:
            return import_class(choice["class_path"])
        return self[choice["name"]].load()


def class_homes(registry: Registry[Entry]) -> dict[str, str]:
    """Class name -> submodule of each shipped entry, for a package that offers the classes beside their registry."""
    targets = [entry.target.partition(":") for entry in registry.shipped()]
    return {class_name: module.rpartition(".")[2] for module, _, class_name in targets}


# Classes that are not importable where they are needed: those of a notebook or of an unguarded script, sent to
# a worker by value.
_sent_classes: dict[str, Any] = {}


def provide_classes(classes: Mapping[str, Any]) -> None:
    """Make ``class_path`` find these classes without importing anything (path -> class)."""
    _sent_classes.update(classes)


def import_class(class_path: str) -> Any:
    """Import ``package.module.Class``. Raises :class:`UserError` naming the part that is not there."""
    if class_path in _sent_classes:
        return _sent_classes[class_path]
    module, _, attribute = class_path.rpartition(".")
    if not module:
        raise UserError(f"class_path '{class_path}' has no module; write package.module.Class")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise UserError(f"class_path '{class_path}': no module named '{error.name}'") from error
    except AttributeError:
        names = vars(importlib.import_module(module))
        raise UserError(
            f"class_path '{class_path}': '{module}' has no '{attribute}'{closest(attribute, names)}"
        ) from None


def normalise(choice: str | Mapping[str, Any], where: str) -> dict[str, Any]:
    """A choice as plain data: ``{"name": ..., **arguments}`` or ``{"class_path": ..., "init_args": {...}}``.

    Args:
        choice: A bare name, a bare dotted class path, or one of the two mappings.
        where: The key, for messages.

    Raises:
        UserError: For anything else, a mapping that has no name among them.
    """
    if isinstance(choice, str):
        return {"class_path": choice, "init_args": {}} if "." in choice else {"name": choice}
    if not isinstance(choice, Mapping):
        raise UserError(f"{choice!r} is neither a name nor a mapping with a name", where)
    if "class_path" in choice:
        extra = set(choice) - {"class_path", "init_args"}
        if extra:
            raise UserError(f"'{min(extra)}' does not go with class_path; put arguments under init_args", where)
        return {"class_path": choice["class_path"], "init_args": dict(choice.get("init_args") or {})}
    if not isinstance(choice.get("name"), str):
        raise UserError(f"{dict(choice)} has no name; write {{name: ..., argument: value}}", where)
    return dict(choice)


def arguments_of(choice: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a normalised choice, without its name."""
    if "class_path" in choice:
        return dict(choice["init_args"])
    return {key: value for key, value in choice.items() if key != "name"}
