"""Checks of the values of a suite file; each says with file, line and key what is wrong and what would be right."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from trainoff.benchmarks.tuning import Path, Where
from trainoff.errors import UserError, closest
from trainoff.registry import Registry, arguments_of, import_class, normalise

_LISTS = {
    "regularizers": "[l2] or [{name: l2, coefficient: 1.0e-4}]",
    "parameters": '[{match: "backbone.*", lr_scale: 0.1}]',
}
_CHOICES = ("optimizer", "schedule", "initialisation", "strategy", "pruning")


def plain_data(value: Any, path: Path, where: Where) -> Any:
    """The same as YAML would hold it, with lists for tuples, so that a record read back says the same."""
    if type(value).__module__ == "numpy":  # the numbers of `np.logspace`
        return plain_data(value.tolist(), path, where)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise UserError(f"the key {key!r} is not text", where(*path))
        return {key: plain_data(item, (*path, key), where) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_data(item, (*path, index), where) for index, item in enumerate(value)]
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise UserError(
        f"{type(value).__name__} is not plain data; numbers, text, lists and mappings are, and anything else is "
        "named by its class_path",
        where(*path),
    )


def mapping(
    value: Any,
    path: Path,
    where: Where,
    known: tuple[str, ...] = (),
    required: tuple[str, ...] = (),
    some: bool = False,
) -> Mapping[str, Any]:
    """The value, where it is a mapping of known keys.

    Args:
        value: Of the suite.
        path: Where it stands.
        where: Names the place of a path.
        known: All keys there may be; any by default.
        required: Keys there must be.
        some: Whether it must not be empty.

    Raises:
        UserError: Where it is not.
    """
    if not isinstance(value, Mapping):
        raise UserError(f"a mapping is needed, not {_kind(value)}", where(*path))
    for key in value:
        if known and key not in known:
            raise UserError(
                f"no key '{key}' here{closest(key, known)}; there are {', '.join(known)}", where(*path, key)
            )
    for key in required:
        if key not in value:
            raise UserError(f"'{key}' is missing", where(*path))
    if some and not value:
        raise UserError("is empty", where(*path))
    return value


def choice_of(value: Any, path: Path, where: Where, registry: Registry[Any]) -> dict[str, Any]:
    """A normalised choice of something in a registry, or by class path, that can be imported and takes its arguments.

    Raises:
        UserError: For an unknown name or argument, or a class that cannot be imported.
    """
    if isinstance(value, Mapping):
        _check_choice(value, path, where)
    choice = normalise(value, where(*path))
    if "name" in choice and choice["name"] not in registry:
        name = choice["name"]
        raise UserError(f"no {registry.kind} is called '{name}'{closest(name, registry.names())}", where(*path))
    _check_arguments(_imported(choice, path, where, registry.load), choice, path, where)
    return choice


def _imported(choice: Mapping[str, Any], path: Path, where: Where, load: Callable[[Mapping[str, Any]], Any]) -> Any:
    what = choice.get("class_path") or choice["name"]
    try:
        factory = load(choice)
    except UserError as error:
        raise UserError(error.message, where(*path)) from error
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"importing {what} raised {reason}", where(*path)) from error
    if not callable(factory):
        raise UserError(f"{what} is neither a class nor a function", where(*path))
    return factory


def _check_arguments(factory: Any, choice: Mapping[str, Any], path: Path, where: Where) -> None:
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # some compiled classes do not say
        return
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    inside = (*path, "init_args") if "class_path" in choice else path
    for name in arguments_of(choice):
        if name not in parameters:
            known = ", ".join(parameters) or "none"
            raise UserError(
                f"takes no '{name}'{closest(name, parameters)}; its arguments: {known}", where(*inside, name)
            )


def check_fields(fields: Mapping[str, Any], where: Where) -> None:
    """Raise :class:`UserError` for a field of a recipe whose type is not what a Recipe takes for granted."""
    for key, example in _LISTS.items():
        if not isinstance(fields.get(key, []), list):
            raise UserError(f"is a list, not {_kind(fields[key])}; write {example}", where(key))
    for index, group in enumerate(fields.get("parameters", [])):
        mapping(group, ("parameters", index), where)
    choices: list[tuple[Path, Any]] = [((key,), fields[key]) for key in _CHOICES if key in fields]
    choices += [(("regularizers", index), choice) for index, choice in enumerate(fields.get("regularizers", []))]
    for path, choice in choices:
        if isinstance(choice, Mapping):
            _check_choice(choice, path, where)
            if "class_path" in choice:
                _imported(choice, path, where, lambda named: import_class(named["class_path"]))


def _check_choice(choice: Mapping[str, Any], path: Path, where: Where) -> None:
    """What :func:`normalise` takes for granted: the types, and numbers that an id can be made from."""
    if not isinstance(choice.get("class_path", ""), str):
        raise UserError(f"{choice['class_path']!r} is not a package.module.Class", where(*path, "class_path"))
    if not isinstance(choice.get("init_args") or {}, Mapping):
        raise UserError(f"a mapping is needed, not {_kind(choice['init_args'])}", where(*path, "init_args"))
    _check_finite(choice, path, where)


def _check_finite(value: Any, path: Path, where: Where) -> None:
    items: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{value} is not a finite number", where(*path))
    for key, item in items:
        _check_finite(item, (*path, key), where)


def check_whole(value: Any, path: Path, where: Where, most: int = 10**12) -> None:
    """Raise :class:`UserError` for anything but a whole number from 1 to ``most``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"{value!r} is not a whole number from 1", where(*path))
    if value > most:
        raise UserError(f"{value} is above {most:,}, the most there may be", where(*path))


def check_number(value: Any, path: Path, where: Where, above: float | None = None) -> None:
    """Raise :class:`UserError` for anything but a finite number, above a bound where one is given."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or value != value or abs(value) == float("inf") or (above is not None and value <= above):
        bound = "" if above is None else f" above {above:g}"
        raise UserError(f"{value!r} is not a finite number{bound}", where(*path))


def _kind(value: Any) -> str:
    kinds = {str: "a text", list: "a list", dict: "a mapping", bool: "true or false", type(None): "nothing"}
    return kinds.get(type(value), "a number")


def is_exclusive(timing: object, where: Where) -> bool:
    """Whether each trial is to run alone: ``exclusive``, or ``shared``.

    Raises:
        UserError: For another word.
    """
    if timing not in ("shared", "exclusive"):
        raise UserError(f"{timing!r} is neither 'shared' nor 'exclusive'", where("timing"))
    return timing == "exclusive"
