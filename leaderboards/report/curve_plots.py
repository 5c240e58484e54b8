"""Learning curves as inline SVG: a line a recipe, the mean over its seeds; a band from the least to the largest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from trainoff.leaderboards.numbers import plain
from trainoff.leaderboards.render.labels import Box
from trainoff.leaderboards.render.scales import Axis, padded, robust_range, tick_texts

COLOURS = 8  # of the page's style; further lines are dashed
_WIDTH, _HEIGHT = 430, 250
_AREA = Box(58, 30, _WIDTH - 10, _HEIGHT - 34)
_MOST_POINTS = 200
_LARGEST = 1e100
MOST_BANDS = 5  # more of them hide each other

Curve = Sequence[float | None]


@dataclass(frozen=True)
class Band:
    """What the seeds of a recipe say at each epoch.

    Args:
        name: The recipe.
        style: Its place in the page's colours.
        points: Epoch, mean, least and largest value, where any seed has one.
    """

    name: str
    style: int
    points: tuple[tuple[int, float, float, float], ...]


def band_of(name: str, style: int, curves: Sequence[Curve]) -> Band:
    """The mean, the least and the largest of the curves at each epoch.

    Args:
        name: The recipe.
        style: Its place in the page's colours.
        curves: One a seed; one value an epoch.
    """
    points = []
    for index in range(max(map(len, curves), default=0)):
        values = [value for curve in curves if index < len(curve) and (value := _drawn(curve[index])) is not None]
        if values:
            points.append((index + 1, math.fsum(values) / len(values), min(values), max(values)))
    return Band(name, style, tuple(points))


def _drawn(value: float | None) -> float | None:
    """A value that an axis can hold: a diverging loss comes near the largest float, whose double is none any more."""
    if value is None or not abs(value) < _LARGEST:
        return None
    return value if abs(value) > 1 / _LARGEST else 0.0


def curve_plot(title: str, bands: Sequence[Band], identity: str, lower_is_better: bool = True) -> str:
    """One plot of all recipes; empty where nothing was measured.

    Args:
        title: What is on the value's axis.
        bands: The recipes.
        identity: Unique in the page.
        lower_is_better: What lies far on the worse side may leave the plot.
    """
    shown = [band for band in bands if band.points]
    if not shown:
        return ""
    values = [mean for band in shown for _, mean, _, _ in band.points]
    low, high = robust_range(values, not lower_is_better)
    last = max(band.points[-1][0] for band in shown)
    y_axis = _value_axis(low, high, min(values))
    x_axis = Axis(1, max(last, 2), _AREA.left, _AREA.right)
    named = ", ".join(band.name for band in shown)
    parts = [
        f'<svg class="small" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="{identity}t {identity}d">'
        f'<title id="{identity}t">{escape(plain(title))} by epoch</title>'
        f'<desc id="{identity}d">{escape(plain(f"One line a recipe: {named}"))}</desc>'
        f'<clipPath id="{identity}c"><rect x="{_AREA.left}" y="{_AREA.top}" width="{_AREA.right - _AREA.left}" '
        f'height="{_AREA.bottom - _AREA.top}"/></clipPath>'
    ]
    parts.append(f'<text x="{_AREA.left}" y="14">{escape(plain(title))}</text>')
    parts += _axes(x_axis, y_axis)
    parts.append(f'<g clip-path="url(#{identity}c)">')
    # Bands beneath all lines, and the best recipe, which is the first, on top.
    if len(shown) <= MOST_BANDS:
        parts += [_band(band, x_axis, y_axis) for band in reversed(shown)]
    parts += [_line(band, x_axis, y_axis) for band in reversed(shown)]
    return "".join(parts) + "</g></svg>"


def _value_axis(low: float, high: float, least: float) -> Axis:
    """Logarithmic where positive values span more than a decade and a half."""
    floor = max(low, least, high * 1e-12)  # a loss that has become nothing is not to squeeze all others together
    if least > 0 and high / floor > 30:
        return Axis(floor / 1.2, high * 1.2, _AREA.bottom, _AREA.top, log=True)
    return Axis(*padded(low, high), _AREA.bottom, _AREA.top)


def _axes(x_axis: Axis, y_axis: Axis) -> list[str]:
    ticks = y_axis.ticks()
    texts = [f"{tick:.3g}" for tick in ticks] if y_axis.log else tick_texts(ticks)
    lines = "".join(f"M{_AREA.left} {y_axis.at(tick):.1f}H{_AREA.right}" for tick in ticks)
    parts = [f'<path d="{lines}" class="a"/>']
    parts += [
        f'<text x="{_AREA.left - 6}" y="{y_axis.at(tick) + 4:.1f}" class="e m">{text}</text>'
        for tick, text in zip(ticks, texts, strict=True)
    ]
    epochs = sorted({round(tick) for tick in x_axis.ticks() if x_axis.low <= round(tick) <= x_axis.high})
    parts += [
        f'<text x="{x_axis.at(epoch):.1f}" y="{_AREA.bottom + 16}" class="c m">{epoch}</text>' for epoch in epochs
    ]
    parts.append(f'<text x="{_AREA.right}" y="{_HEIGHT - 4}" class="e m">epoch</text>')
    return parts


def _height(axis: Axis, value: float) -> float:
    """The pixel of a value, also of one that is off the axis: its line leaves the plot, and the clip path hides it."""
    if axis.log:
        if value <= 0:
            return 2 * axis.start
        share = math.log(value / axis.low) / math.log(axis.high / axis.low)
    else:
        share = (value - axis.low) / (axis.high - axis.low)
    return axis.start + min(max(share, -2.0), 3.0) * (axis.end - axis.start)


def _thinned(band: Band) -> list[tuple[int, float, float, float]]:
    step = math.ceil(len(band.points) / _MOST_POINTS)
    kept = list(band.points[::step])
    return kept if kept[-1] == band.points[-1] else [*kept, band.points[-1]]


def _band(band: Band, x_axis: Axis, y_axis: Axis) -> str:
    points = _thinned(band)
    if len(points) < 2 or all(low == high for _, _, low, high in points):
        return ""
    upper = [f"{x_axis.at(epoch):.1f} {_height(y_axis, high):.1f}" for epoch, _, _, high in points]
    lower = [f"{x_axis.at(epoch):.1f} {_height(y_axis, low):.1f}" for epoch, _, low, _ in reversed(points)]
    return f'<path d="M{"L".join([*upper, *lower])}Z" class="b {style_of(band.style)}"/>'


def _line(band: Band, x_axis: Axis, y_axis: Axis) -> str:
    points = _thinned(band)
    title = f"<title>{escape(plain(band.name))}</title>"
    if len(points) == 1:
        epoch, mean = points[0][:2]
        return (
            f'<circle cx="{x_axis.at(epoch):.1f}" cy="{_height(y_axis, mean):.1f}" r="3.5" '
            f'class="k {style_of(band.style)}">{title}</circle>'
        )
    path = "L".join(f"{x_axis.at(epoch):.1f} {_height(y_axis, mean):.1f}" for epoch, mean, _, _ in points)
    return f'<path d="M{path}" class="k {style_of(band.style)}">{title}</path>'


def style_of(place: int) -> str:
    """The classes of a line: its colour, and its dashes where the colours are used up."""
    return f"k{place % COLOURS}" + ("" if place < COLOURS else " d1" if place < 2 * COLOURS else " d2")


def legend(styles: Mapping[str, int]) -> str:
    """The recipes' names beside their lines, as one drawing that breaks into rows."""
    parts, x, y = [], 0.0, 14.0
    for name, place in styles.items():
        text = plain(name)
        text = text if len(text) <= 32 else f"{text[:16]}…{text[-15:]}"
        width = 34 + 7.3 * len(text) + 16
        if x and x + width > 2 * _WIDTH:
            x, y = 0.0, y + 20
        parts.append(
            f'<path d="M{x:.0f} {y - 4}h26" class="k {style_of(place)}"/>'
            f'<text x="{x + 32:.0f}" y="{y}">{escape(text)}</text>'
        )
        x += width
    return f'<svg viewBox="0 0 {2 * _WIDTH} {y + 6:.0f}" role="img" aria-label="Legend">{"".join(parts)}</svg>'
