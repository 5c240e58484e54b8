"""From plain data to the DataModule, or the alteration, that it names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from trainoff.datamodules.alteration_registry import ALTERATIONS, Alteration
from trainoff.datamodules.in_memory import InMemoryDataModule
from trainoff.datamodules.registry import DATAMODULES
from trainoff.errors import UserError, closest
from trainoff.registry import arguments_of, normalise

Choice = str | Mapping[str, Any]
Built = TypeVar("Built")


def build_datamodule(choice: Choice, where: str) -> Any:
    """A DataModule of any kind.

    Args:
        choice: A name, or a mapping with its arguments.
        where: The key, for messages.

    Raises:
        UserError: For an unknown name or argument, or one that is missing.
    """
    normal = normalise(choice, where)
    return _call(DATAMODULES.load(normal), normal, where)


def build_in_memory(choice: Choice, where: str) -> InMemoryDataModule:
    """A DataModule that holds its set in memory.

    Args:
        choice: A name, or a mapping with its arguments.
        where: The key, for messages.

    Raises:
        UserError: For an unknown name or argument, or a DataModule of another kind.
    """
    data = build_datamodule(choice, where)
    if not isinstance(data, InMemoryDataModule):
        raise UserError(f"{type(data).__name__} does not hold its set in memory, which is needed here", where)
    return data


def build_alterations(choices: Sequence[Choice], where: str) -> list[Alteration]:
    """The alterations that a list names, in its order.

    Raises:
        UserError: For an unknown name or argument.
    """
    if isinstance(choices, (str, Mapping)):
        raise UserError(f"{choices!r} is not a list; write [{{name: ..., argument: value}}]", where)
    normal = [normalise(choice, f"{where}.{number}") for number, choice in enumerate(choices)]
    built = [_call(ALTERATIONS.load(choice), choice, f"{where}.{number}") for number, choice in enumerate(normal)]
    return cast(list[Alteration], built)


def _call(factory: Callable[..., Built], choice: Mapping[str, Any], where: str) -> Built:
    arguments = arguments_of(choice)
    label = choice.get("name") or choice["class_path"]
    known = inspect.signature(factory).parameters
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        raise UserError(f"{label} takes no '{unknown[0]}'{closest(unknown[0], known)}", where)
    try:
        inspect.signature(factory).bind(**arguments)
    except TypeError as error:
        raise UserError(f"{label}: {error}", where) from error
    return factory(**arguments)
