"""What `search` means in a suite file: an argument of a task's module whose value an architecture search chooses.

``{search: [relu, tanh]}`` is a choice between values, ``{search: {min: 1, max: 8}}`` a whole number of a range, and
``{search: {min: 0.0, max: 0.5}}`` a number of one; a range may have a ``step``, or be ``log``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainoff.benchmarks.suite_values import mapping
from trainoff.benchmarks.trial import Candidate
from trainoff.benchmarks.tuning import Path, Where, dotted, marked, range_bounds, with_values
from trainoff.errors import UserError

COSTS = ("parameters", "flops", "latency")
_RANGE_KEYS = ("min", "max", "log", "step")


@dataclass(frozen=True)
class Choice:
    """One of several values.

    Args:
        values: Plain data, each once.
    """

    values: list[Any]

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.values)

    @property
    def first(self) -> Any:
        """The value that stands first."""
        return self.values[0]


@dataclass(frozen=True)
class Range:
    """A number between two bounds, both included.

    Args:
        low: The least.
        high: The largest.
        step: Distance of the values from ``low`` on; ``None`` for any.
        is_log: Whether ratios rather than differences are alike.
        is_whole: Whether whole numbers only.
    """

    low: float
    high: float
    step: float | None
    is_log: bool
    is_whole: bool

    @property
    def first(self) -> float:
        """The least."""
        return int(self.low) if self.is_whole else self.low

    @property
    def size(self) -> int | None:
        """How many values there are; ``None`` for a continuum."""
        step = 1 if self.is_whole and self.step is None else self.step
        return None if step is None else 1 + math.floor((self.high - self.low) / step + 1e-9)


Space = dict[Path, Choice | Range]


def space_of(module: Mapping[str, Any]) -> Space:
    """The searched arguments of a task's module, by path, in the order they stand.

    Args:
        module: As the suite states it, checked by :func:`check_space`.
    """
    return {path: _domain(content, dotted(path)) for path, content in marked(module, "search")}


def size_of(space: Space) -> int | None:
    """How many candidates there are; ``None`` where a range is a continuum."""
    sizes = [domain.size for domain in space.values()]
    return None if None in sizes else math.prod(size for size in sizes if size is not None)


def check_space(module: Any, path: Path, where: Where) -> None:
    """Check each ``search`` in a task's module.

    Args:
        module: As the suite states it.
        path: Where it stands.
        where: Names the place of a path.

    Raises:
        UserError: For an empty or malformed one.
    """
    for inner, content in marked(module, "search", path):
        _domain(content, where(*inner, "search"))


def refuse_search(node: Any, path: Path, where: Where) -> None:
    """Raise :class:`UserError` for a ``search`` outside a task's module.

    Args:
        node: Plain data.
        path: Where it stands.
        where: Names the place of a path.
    """
    for inner, _ in marked(node, "search", path):
        raise UserError("a search is over the arguments of a task's module; a recipe's values are tuned, by `tune`",
                        where(*inner))  # fmt: skip


def read_candidate(value: Any, path: Path, where: Where) -> Candidate:
    """What a search wrote of a task.

    Args:
        value: ``{of, values, final}``.
        path: Where it stands.
        where: Names the place of a path.

    Raises:
        UserError: Where it is something else.
    """
    keys = ("of", "values", "final")
    facts = mapping(value, path, where, keys, required=keys)
    mapping(facts["values"], (*path, "values"), where)
    if not isinstance(facts["of"], str) or not isinstance(facts["final"], bool):
        raise UserError("is what `trainoff search` writes: of a task, values, and final: true or false", where(*path))
    return Candidate(facts["of"], dict(facts["values"]), facts["final"])


def read_cost(value: Any, where: Where) -> str:
    """The cost that a suite's ``search`` names, ``parameters`` by default.

    Args:
        value: ``{cost: ...}``, or ``None``.
        where: Names the place of a path.

    Raises:
        UserError: For an unknown one.
    """
    cost = mapping({} if value is None else value, ("search",), where, ("cost",)).get("cost", COSTS[0])
    if cost not in COSTS:
        raise UserError(f"{cost!r} is not one of {', '.join(COSTS)}", where("search", "cost"))
    return str(cost)


def candidate_name(task: str, values: Mapping[Path, Any]) -> str:
    """``digits-mlp-1f0c3a9e``: the task's name and eight digits of the values' hash, so that equal ones share it."""
    content = json.dumps(_by_key(values), sort_keys=True, separators=(",", ":"))
    return f"{task}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def candidate_data(task: Mapping[str, Any], of: str, values: Mapping[Path, Any], is_final: bool) -> dict[str, Any]:
    """A candidate as a task of a suite file.

    Args:
        task: The task that is searched over, as the suite states it.
        of: Its name.
        values: Of each searched argument.
        is_final: Whether it is trained on the final seeds too.
    """
    candidate = {"of": of, "values": _by_key(values), "final": is_final}
    return {**task, "module": with_values(task["module"], values), "candidate": candidate}


def _by_key(values: Mapping[Path, Any]) -> dict[str, Any]:
    return {dotted(path): value for path, value in values.items()}


def _domain(content: Any, place: str) -> Choice | Range:
    if isinstance(content, list):
        if not content:
            raise UserError("nothing to choose from; give at least one value", place)
        if len({json.dumps(value, sort_keys=True) for value in content}) < len(content):
            raise UserError("a value stands twice", place)
        return Choice(content)
    if not isinstance(content, Mapping):
        raise UserError("is neither a list of values nor {min, max, log, step}", place)
    return _range(content, place)


def _range(content: Mapping[str, Any], place: str) -> Range:
    low, high, log = range_bounds(content, _RANGE_KEYS, place)
    step = content.get("step")
    is_number = isinstance(step, (int, float)) and not isinstance(step, bool) and math.isfinite(step)
    if "step" in content and not is_number:
        raise UserError(f"'step' is {step!r}; a finite number is needed", place)
    if log and step is not None:
        raise UserError("a logarithmic range has no step", place)
    if step is not None and not 0 < step <= high - low:
        raise UserError(f"step {step:g} is not between 0 and the range's length", place)
    is_whole = all(isinstance(number, int) for number in (low, high, *(() if step is None else (step,))))
    return Range(low, high, step, log, is_whole)
