"""What `tune` means: a recipe with values to choose becomes a list of settings, one of which is chosen.

By ``grid`` all combinations are tried, by ``sobol`` as many points of a quasi-random sequence for every recipe.
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainoff.benchmarks.record import Record
from trainoff.errors import UserError, closest
from trainoff.registry import normalise

Path = tuple[str | int, ...]
Where = Callable[..., str]
_MOST_SETTINGS = 10_000
_SOBOL_ROUNDS = 32
_RANGE_KEYS = ("min", "max", "log", "points")
_WAYS = ("grid", "sobol")
_SOBOL_POINTS = 8


@dataclass(frozen=True)
class Setting:
    """A recipe with every ``tune`` resolved.

    Args:
        fields: The recipe's fields, plain data.
        tuned: The value that each ``tune`` took, by dotted key.
    """

    fields: dict[str, Any]
    tuned: dict[str, Any]


def fields_text(fields: Mapping[str, Any]) -> str:
    """A setting's fields as text, equal where the settings are."""
    return json.dumps(fields, sort_keys=True)


def tuning_points(tuning: Any, where: Where) -> int | None:
    """How many settings a suite's ``tuning`` asks for of each recipe; ``None`` for all combinations.

    Args:
        tuning: ``grid``, ``sobol``, or ``{name: sobol, points: 8}``.
        where: Names the place of a path, for messages.

    Raises:
        UserError: For anything else.
    """
    choice = normalise(tuning, where("tuning"))
    name = choice.get("name")
    if name not in _WAYS:
        raise UserError(
            f"no tuning is called '{name}'{closest(str(name), _WAYS)}; there are grid and sobol", where("tuning")
        )
    known = ("name", "points") if name == "sobol" else ("name",)
    for key in choice:
        if key not in known:
            raise UserError(f"{name} takes no '{key}'{closest(key, known)}", where("tuning", key))
    if name == "grid":
        return None
    points = choice.get("points", _SOBOL_POINTS)
    if isinstance(points, bool) or not isinstance(points, int) or not 2 <= points <= _MOST_SETTINGS:
        raise UserError(f"{points!r} is not a whole number from 2 to {_MOST_SETTINGS:,}", where("tuning", "points"))
    return points


def settings_of(fields: Mapping[str, Any], where: Where, points: int | None = None) -> list[Setting]:
    """All settings of a recipe, in the order in which a tie is decided.

    Args:
        fields: The recipe, in which ``{tune: [...]}`` or ``{tune: {min, max, log, points}}`` may stand for a value.
        where: Names the place of a path, for messages.
        points: How many points of Sobol's sequence to try, whatever the number of tuned values; by default, and
            where lists have no more combinations than that, the product of all values in the order they stand.

    Raises:
        UserError: For an empty or malformed ``tune``.
    """
    found = dict(marked(fields, "tune"))
    grids = {path: _values(tune, path, where) for path, tune in found.items()}
    count = math.prod(map(len, grids.values()))
    if points is None and count > _MOST_SETTINGS:
        raise UserError(f"its tunes make {count:,} settings; at most {_MOST_SETTINGS:,} are tried", where())
    few = count <= (points or count) and all(isinstance(tune, list) for tune in found.values())
    settings = []
    for values in itertools.product(*grids.values()) if points is None or few else _sobol(found, grids, points):
        chosen = dict(zip(found, values, strict=True))
        resolved = with_values(fields, chosen)
        settings.append(Setting(resolved, {dotted(path): value for path, value in chosen.items()}))
    return settings


def _sobol(tunes: Mapping[Path, Any], grids: Mapping[Path, list[Any]], points: int) -> list[tuple[Any, ...]]:
    """Distinct points of Sobol's sequence (Sobol' 1967; scrambled from a fixed seed), one coordinate a tuned value.

    A range is taken as a whole, whatever its ``points``; a list at its values.
    """
    from scipy.stats.qmc import Sobol

    sequence = Sobol(len(tunes), seed=0)
    block = 2 ** math.ceil(math.log2(points))  # the sequence is balanced over powers of two only
    rows: dict[str, tuple[Any, ...]] = {}
    for _ in range(_SOBOL_ROUNDS):  # where lists' values repeat themselves, more points are drawn than are wanted
        for shares in sequence.random(block):
            row = tuple(
                _at(tune, grids[path], share) for (path, tune), share in zip(tunes.items(), shares, strict=True)
            )
            rows.setdefault(repr(row), row)
            if len(rows) == points:
                return list(rows.values())
    return list(rows.values())


def _at(tune: Any, values: list[Any], share: float) -> Any:
    """The value at a share in [0, 1) of a list, or of a range."""
    if isinstance(tune, list):
        return values[int(share * len(values))]
    low, high = values[0], values[-1]
    value = low * (high / low) ** share if tune.get("log") else low + (high - low) * share
    return float(f"{value:.6g}")


def choose(settings: Sequence[Setting], records: Sequence[Sequence[Record]]) -> int | None:
    """The setting with the best mean validation metric; nothing but validation is looked at.

    A setting with a failed seed loses against any without; the first wins a tie. ``None`` where each one failed.

    Args:
        settings: The candidates.
        records: Of each candidate, its tuning trials.
    """
    best: int | None = None
    best_score = -math.inf
    for index, of_setting in enumerate(records[: len(settings)]):
        mean = mean_score(of_setting)
        if mean is not None and mean > best_score:
            best, best_score = index, mean
    return best


def mean_score(records: Sequence[Record]) -> float | None:
    """The mean validation metric of a setting's tuning trials, signed so that more is better.

    ``None`` without trials, or where one of them failed.
    """
    scores = [_validation_score(record) for record in records]
    known = [score for score in scores if score is not None]
    return statistics.fmean(known) if known and len(known) == len(scores) else None


def _validation_score(record: Record) -> float | None:
    """The best validation metric, signed so that more is better."""
    if record.status != "ok" or record.quality is None or record.quality.best.val.metric is None:
        return None
    value = record.quality.best.val.metric
    return value if record.quality.mode == "max" else -value


def marked(node: Any, mark: str, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """What stands for values in plain data: the path and content of each ``{mark: content}``.

    Args:
        node: Plain data.
        mark: ``tune`` or ``search``.
        path: Where the node stands.
    """
    if isinstance(node, Mapping):
        if set(node) == {mark}:
            yield path, node[mark]
            return
        for key, value in node.items():
            yield from marked(value, mark, (*path, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from marked(value, mark, (*path, index))


def with_values(node: Any, chosen: Mapping[Path, Any], path: Path = ()) -> Any:
    """The same plain data with a value at each path in place of what stood for it.

    Args:
        node: Plain data.
        chosen: The values.
        path: Where the node stands.
    """
    if path in chosen:
        return chosen[path]
    if isinstance(node, Mapping):
        return {key: with_values(value, chosen, (*path, key)) for key, value in node.items()}
    if isinstance(node, list):
        return [with_values(value, chosen, (*path, index)) for index, value in enumerate(node)]
    return node


def _values(tune: Any, path: Path, where: Where) -> list[Any]:
    place = where(*path, "tune")
    if isinstance(tune, list):
        if not tune:
            raise UserError("an empty grid; give at least one value", place)
        if len({repr(value) for value in tune}) < len(tune):
            raise UserError("a value stands twice in the grid", place)
        return tune
    if not isinstance(tune, Mapping):
        raise UserError("is neither a list of values nor {min, max, log, points}", place)
    low, high, log = range_bounds(tune, _RANGE_KEYS, place)
    points = tune.get("points", 3)
    if isinstance(points, bool) or not isinstance(points, int) or points < 2:
        raise UserError(f"'points' is {points!r}; a range has at least 2", place)
    if points > _MOST_SETTINGS:
        raise UserError(f"'points' is {points}; a range has at most {_MOST_SETTINGS:,}", place)
    shares = [index / (points - 1) for index in range(points)]
    values = [low * (high / low) ** share if log else low + (high - low) * share for share in shares]
    return [float(f"{value:.6g}") for value in values]


def range_bounds(content: Mapping[str, Any], known: Sequence[str], place: str) -> tuple[float, float, bool]:
    """The two ends of a range in a suite file, as they stand, and whether it is logarithmic.

    Args:
        content: ``{min, max, log, ...}``.
        known: All keys that there may be.
        place: Where it stands, for messages.

    Raises:
        UserError: For an unknown key, an end that is no finite number, or ends in the wrong order.
    """
    for key in content:
        if key not in known:
            raise UserError(f"a range has no '{key}'{closest(str(key), known)}", place)
    for key in ("min", "max"):
        value = content.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise UserError(f"'{key}' is {value!r}; a finite number is needed", place)
    low, high, log = content["min"], content["max"], content.get("log", False)
    if not isinstance(log, bool):
        raise UserError(f"'log' is {log!r}; true or false", place)
    if low >= high:
        raise UserError(f"min {low:g} is not below max {high:g}", place)
    if log and low <= 0:
        raise UserError(f"min is {low:g}; a logarithmic range begins above 0", place)
    return low, high, log


def dotted(path: Path) -> str:
    """``regularizers[0].p`` for a path."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
