"""Parallel coordinates as inline SVG: an axis a hyperparameter, a line a trial, its validation metric at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from trainoff.leaderboards.numbers import number, plain, setting_text
from trainoff.leaderboards.render.scales import Axis
from trainoff.leaderboards.report.curve_plots import style_of

_WIDTH, _HEIGHT = 860, 300
_TOP, _BOTTOM = 44, 252
_LEFT, _RIGHT = 190, _WIDTH - 70
_NOWHERE = _BOTTOM + 24  # of a trial that has no such value
_MOST_TICKS = 8
_LARGEST = 1e100


@dataclass(frozen=True)
class Path:
    """One trial.

    Args:
        name: Its recipe.
        style: The recipe's place in the page's colours.
        values: By dotted key.
        score: Its validation metric.
    """

    name: str
    style: int
    values: Mapping[str, Any]
    score: float


def is_number(value: Any) -> bool:
    """Whether it has a place on an axis of numbers."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_log(values: Sequence[Any]) -> bool:
    """Whether an axis of these values is logarithmic: they are positive and span more than a factor of eight."""
    numbers = [value for value in values if is_number(value)]
    return len(numbers) == len(values) and min(numbers) > 0 and max(numbers) / min(numbers) > 8


@dataclass(frozen=True)
class _Axis:
    title: str
    ticks: tuple[tuple[float, str], ...]
    places: Mapping[str, float]  # by the value's text

    def at(self, value: Any) -> float:
        return self.places.get(repr(value), _NOWHERE)


def parallel_plot(keys: Mapping[str, str], metric: str, paths: Sequence[Path], identity: str) -> str:
    """The drawing.

    Args:
        keys: Dotted key -> the axis' title.
        metric: Title of the last axis.
        paths: The trials; at least one.
        identity: Unique in the page.
    """
    ordered = sorted(paths, key=lambda path: path.style)
    axes = [_axis(title, [path.values[key] for path in ordered if key in path.values]) for key, title in keys.items()]
    axes.append(_axis(metric, [path.score for path in paths], spread=True))
    step = (_RIGHT - _LEFT) / (len(axes) - 1)
    xs = [_LEFT + step * index for index in range(len(axes))]
    missing = any(key not in path.values for path in paths for key in keys)
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="{identity}t {identity}d">'
        f'<title id="{identity}t">Hyperparameters and validation {escape(plain(metric))}</title>'
        f'<desc id="{identity}d">One line a trial through its values; the last axis is its validation metric.</desc>'
    ]
    for path in sorted(paths, key=lambda path: -path.style):  # the best recipe's on top
        ys = [axis.at(path.values[key]) if key in path.values else _NOWHERE
              for key, axis in zip(keys, axes, strict=False)]  # fmt: skip
        ys.append(axes[-1].at(path.score))
        points = "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys, strict=True))
        told = ", ".join(f"{keys[key]}={setting_text(path.values[key])}" for key in keys if key in path.values)
        title = escape(plain(f"{path.name}: {told}: {number(path.score, 4)}"))
        parts.append(f'<path d="M{points}" class="k thin {style_of(path.style)}"><title>{title}</title></path>')
    for x, axis in zip(xs, axes, strict=True):
        last = x == xs[-1]
        parts.append(f'<path d="M{x:.1f} {_TOP}V{_BOTTOM}" class="w"/>')
        parts.append(f'<text x="{x:.1f}" y="20" class="c">{escape(_short(plain(axis.title)))}</text>')
        parts += [
            f'<text x="{x + 8 if last else x - 8:.1f}" y="{y + 4:.1f}" class="h {"m" if last else "e m"}">'
            f"{escape(_short(text))}</text>"
            for y, text in axis.ticks
        ]
        if missing and not last:
            parts.append(f'<text x="{x - 8:.1f}" y="{_NOWHERE + 4}" class="e m">none</text>')
    return "".join(parts) + "</svg>"


def _axis(title: str, values: Sequence[Any], spread: bool = False) -> _Axis:
    distinct = {repr(value): value for value in values}
    if _has_scale(list(distinct.values())):
        low, high = min(distinct.values()), max(distinct.values())
        scale = Axis(low, high, _BOTTOM - 8, _TOP + 8, log=not spread and is_log(list(distinct.values())))
        places = {text: scale.at(value) for text, value in distinct.items()}
        ticks = sorted(distinct.values())
        if spread or len(ticks) > _MOST_TICKS:
            ticks = [tick for tick in scale.ticks() if low <= tick <= high] or [low, high]
        return _Axis(title, tuple((scale.at(tick), f"{tick:.4g}") for tick in ticks), places)
    ordered = list(distinct)
    room = (_BOTTOM - _TOP - 16) / max(len(ordered) - 1, 1)
    middle = (_TOP + _BOTTOM) / 2
    places = {text: _TOP + 8 + room * index if len(ordered) > 1 else middle for index, text in enumerate(ordered)}
    step = -(-len(ordered) // 12)
    shown = tuple((places[text], setting_text(distinct[text])) for text in ordered[::step])
    return _Axis(title, shown, places)


def _has_scale(values: Sequence[Any]) -> bool:
    """Whether an axis of numbers can hold them: several, and not so near each other or so large that floats fail."""
    if not all(map(is_number, values)) or not all(abs(value) < _LARGEST for value in values):
        return False
    return bool(max(values) - min(values) > max(max(map(abs, values)) * 1e-12, 1 / _LARGEST))


def _short(text: str) -> str:
    return text if len(text) <= 24 else f"{text[:12]}…{text[-11:]}"
