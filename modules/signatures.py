"""Checking arguments against the signature of what they are for, with the closest names for a wrong one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from trainoff.errors import UserError, closest


def bind_arguments(
    factory: Callable[..., Any],
    arguments: Mapping[str, Any],
    where: str,
    given: set[str] | None = None,
    extra: set[str] | None = None,
    closed: bool = False,
) -> None:
    """Check names and number types against a signature.

    Args:
        factory: The class or function that will be called.
        arguments: By name.
        where: The key, for messages.
        given: Arguments that trainoff passes itself.
        extra: Arguments that are taken beside the signature's, for the list of close names.
        closed: Names that the signature does not list are refused, also where it ends in ``**kwargs``.

    Raises:
        UserError: For an argument that is not taken, a required one that is missing, or a value of the wrong kind.
    """
    parameters = dict(inspect.signature(factory).parameters)
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    open_ended = not closed and any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    known = [name for name, p in parameters.items() if name not in (given or set()) and p.kind not in variable]
    for name, value in arguments.items():
        if name not in known and not open_ended:
            choices = [*known, *sorted(extra or ())]
            raise UserError(
                f"takes no '{name}'{closest(name, choices)}; it takes {', '.join(choices)}", f"{where}.{name}"
            )
        if name in parameters:
            _check_number(value, parameters[name].default, f"{where}.{name}")
    for name in known:
        if parameters[name].default is inspect.Parameter.empty and name not in arguments:
            raise UserError(f"needs '{name}'", where)


def _check_number(value: object, default: object, where: str) -> None:
    """Where the default is a number (or a pair of numbers), so must the value be."""
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise UserError(f"{value!r} is neither true nor false", where)
    elif isinstance(default, (int, float)):
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        # A tensor is a learning rate that torch.compile can change; it comes from Python only.
        if not is_number and not hasattr(value, "dtype"):
            raise UserError(f"{value!r} is not a number", where)
    elif isinstance(default, tuple) and not isinstance(value, (tuple, list)):
        raise UserError(f"{value!r} is not a list, such as {list(default)}", where)
