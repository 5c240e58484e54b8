"""Two plots as inline SVG: quality against cost, and train against test. Colours come from the page."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from html import escape

from trainoff.leaderboards.board import TaskTable
from trainoff.leaderboards.numbers import estimate_text, metric_text, number, plain, seconds_text
from trainoff.leaderboards.render.columns import cost_text, searched_cost, tuned_text
from trainoff.leaderboards.render.labels import Box, place
from trainoff.leaderboards.render.scales import Axis, padded, robust_range, tick_texts
from trainoff.leaderboards.standing import Standing

_WIDTH = 860
_LONGEST_NAME = 32


def comparable_groups(table: TaskTable) -> list[tuple[str, list[Standing]]]:
    """Rows whose costs may be compared: a plot each where there are two or more.

    The costs are training times, with the conditions they were taken under; of an architecture search's candidates
    they are what the search saw, in one group without a name.
    """
    groups: dict[str, list[Standing]] = {}
    for row in table.rows:
        quality, cost = _quality(row), _cost(row)
        if quality is not None and cost and (row.timing or row.searched_cost):
            groups.setdefault("" if row.searched_cost else row.timing, []).append(row)
    return [(name, rows) for name, rows in groups.items() if len(rows) > 1]


def _quality(row: Standing) -> float | None:
    """The height of its point."""
    if row.searched_cost:
        return row.searched_val
    return None if row.test is None else row.test.mean


def _cost(row: Standing) -> float | None:
    return row.searched_value if row.searched_cost else row.train_seconds


def _margin(row: Standing) -> float:
    return 0.0 if row.searched_cost or row.test is None or not row.test.margin else row.test.margin


def trade_off(table: TaskTable, rows: Sequence[Standing], identity: str) -> str:
    """Quality against cost of rows of one group, with intervals and the Pareto front.

    Test metric against training seconds; of an architecture search validation metric against its cost.

    Args:
        table: The task.
        rows: Of one :func:`comparable_groups`.
        identity: Unique in the page, for the title's id.
    """
    height, area = 400, Box(64, 34, _WIDTH - 30, 352)
    costs = [_cost(row) or 0.0 for row in rows]
    low, high = robust_range([quality for row in rows if (quality := _quality(row)) is not None], table.mode == "max")
    # Whiskers of the points inside may widen the range, but not squeeze the points into a line.
    for row in rows:
        quality = _quality(row) or 0.0
        if low <= quality <= high:
            low, high = min(low, quality - _margin(row)), max(high, quality + _margin(row))
    y_axis = Axis(*padded(low, high), area.bottom, area.top)
    room = max(1.25, (max(costs) / min(costs)) ** 0.12)  # for names on either side
    x_axis = Axis(min(costs) / room, max(costs) * room, area.left, area.right, log=True)
    metric = metric_text(table.metric)
    searched = searched_cost(table)
    split, cost, point = ("validation", searched, "candidate") if searched else ("test", "training time", "recipe")
    better = "higher" if table.mode == "max" else "lower"
    parts = [_head(height, identity, f"{split.capitalize()} {metric} against {cost} on {table.task}",
                   f"One point a {point}; {better} and further left is better. Numbers: see the table.")]  # fmt: skip
    ticks = [
        f"{tick:,.12g}" if searched in ("parameters", "flops") else _seconds_tick(tick) for tick in x_axis.ticks()
    ]
    parts += _grid_y(y_axis, area) + _grid_x(x_axis, area, ticks)
    parts.append(f'<text x="{area.left}" y="18">{split} {escape(metric)} ({better} is better)</text>')
    parts.append(f'<text x="{area.right}" y="{height - 8}" class="e">{escape(cost)}, log scale</text>')
    front, taken = _front(rows, x_axis, y_axis)
    parts.append(front)
    points, texts = [], []
    for row in rows:
        quality = _quality(row) or 0.0
        x, y = x_axis.at(_cost(row) or 0.0), y_axis.at(quality)
        is_inside = y_axis.holds(quality)
        points.append((x, y))
        texts.append(_short(row.recipe) + ("" if is_inside else f" ({number(quality)})"))
        taken.append(Box(x - 6, y - 6, x + 6, y + 6))
        if _margin(row) and is_inside:
            top, bottom = y_axis.at(quality + _margin(row)), y_axis.at(quality - _margin(row))
            taken.append(Box(x - 2, min(top, bottom), x + 2, max(top, bottom)))
            parts.append(f'<path d="M{x:.1f} {bottom:.1f}V{top:.1f}" class="w"/>')
    labels = place(points, texts, taken, area)
    unnamed = labels.count(None)
    if unnamed:
        parts.append(f'<text x="{area.left}" y="{height - 8}" class="m">{unnamed} without room for a name</text>')
    for row, (x, y), text, label in zip(rows, points, texts, labels, strict=True):
        if label is not None and label.far:
            end_x, end_y = label.leader(x, y)
            parts.append(f'<path d="M{x:.1f} {y:.1f}L{end_x:.1f} {end_y:.1f}" class="l"/>')
        parts.append(_mark(row, x, y, y_axis.holds(_quality(row) or 0.0)))
        if label is not None:
            kind = {"start": "", "end": ' class="e"', "middle": ' class="c"'}[label.anchor]
            parts.append(f'<text x="{label.x:.1f}" y="{label.y:.1f}"{kind}>{escape(text)}</text>')
    return "".join(parts) + "</svg>"


def overfitting(table: TaskTable, identity: str) -> str:
    """Train against test metric at the last epoch, a line a recipe; empty where no row has both."""
    rows = [row for row in table.rows if row.train_last is not None and row.test_last is not None]
    if not rows:
        return ""
    height = 62 + 22 * len(rows)
    area = Box(262, 34, _WIDTH - 150, height - 26)
    values = [value.mean for row in rows for value in (row.train_last, row.test_last) if value is not None]
    axis = Axis(*padded(*robust_range(values, table.mode == "max")), area.left, area.right)
    metric = metric_text(table.metric)
    parts = [_head(height, identity, f"Train against test {metric} at the last epoch on {table.task}",
                   "One line a recipe, from test to train; a long line is a large gap.")]  # fmt: skip
    parts += _grid_x(axis, area, tick_texts(axis.ticks()))
    parts.append(
        f'<circle cx="{area.left + 6}" cy="14" r="4.5" class="te"/><text x="{area.left + 16}" y="18">test</text>'
        f'<circle cx="{area.left + 66}" cy="14" r="4.5" class="tr"/><text x="{area.left + 76}" y="18">train</text>'
        f'<text x="{_WIDTH}" y="18" class="e">gap in {escape(metric)}</text>'
    )
    for index, row in enumerate(rows):
        y = area.top + 12 + 22 * index
        assert row.train_last is not None
        assert row.test_last is not None
        train, test = axis.at(row.train_last.mean), axis.at(row.test_last.mean)
        outside, beside = "", ""
        if not (axis.holds(row.test_last.mean) and axis.holds(row.train_last.mean)):
            outside = " o"
            values_text = f"{number(row.test_last.mean)} to {number(row.train_last.mean)}"
            right = max(train, test) < (area.left + area.right) / 2
            x = max(train, test) + 12 if right else min(train, test) - 12
            beside = f'<text x="{x:.1f}" y="{y + 4}" class="m{"" if right else " e"}">{values_text}</text>'
        parts.append(
            f'<text x="{area.left - 12}" y="{y + 4}" class="e">{escape(_short(row.recipe))}</text>'
            f'<path d="M{test:.1f} {y}H{train:.1f}" class="g{outside}"/>'
            f'<circle cx="{train:.1f}" cy="{y}" r="4.5" class="tr{outside}"/>'
            f'<circle cx="{test:.1f}" cy="{y}" r="4.5" class="te{outside}"/>{beside}'
            f'<text x="{_WIDTH}" y="{y + 4}" class="e">{escape(estimate_text(row.gap_metric))}</text>'
        )
    return "".join(parts) + "</svg>"


def _head(height: float, identity: str, title: str, description: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-labelledby="{identity}t {identity}d">'
        f'<title id="{identity}t">{escape(plain(title))}</title><desc id="{identity}d">{escape(description)}</desc>'
    )


def _grid_y(axis: Axis, area: Box) -> list[str]:
    ticks = axis.ticks()
    lines = "".join(f"M{area.left} {axis.at(tick):.1f}H{area.right}" for tick in ticks)
    return [f'<path d="{lines}" class="a"/>'] + [
        f'<text x="{area.left - 8}" y="{axis.at(tick) + 4:.1f}" class="e m">{text}</text>'
        for tick, text in zip(ticks, tick_texts(ticks), strict=True)
    ]


def _grid_x(axis: Axis, area: Box, texts: Sequence[str]) -> list[str]:
    lines = "".join(f"M{axis.at(tick):.1f} {area.top}V{area.bottom}" for tick in axis.ticks())
    return [f'<path d="{lines}" class="a"/>'] + [
        f'<text x="{axis.at(tick):.1f}" y="{area.bottom + 16}" class="c m">{escape(text)}</text>'
        for tick, text in zip(axis.ticks(), texts, strict=True)
    ]


def _front(rows: Sequence[Standing], x_axis: Axis, y_axis: Axis) -> tuple[str, list[Box]]:
    """The front's line, and what it covers."""
    points = sorted((_cost(row) or 0.0, _quality(row) or 0.0) for row in rows if row.pareto)
    if len(points) < 2:
        return "", []
    # Between two points of the front the earlier one is still the best for its time: a staircase, not a slope.
    pixels = [(x_axis.at(x), y_axis.at(y)) for x, y in points]
    path = f"M{pixels[0][0]:.1f} {pixels[0][1]:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in pixels[1:])
    boxes = []
    for (x, y), (next_x, next_y) in itertools.pairwise(pixels):
        boxes.append(Box(x, y - 2, next_x, y + 2))
        boxes.append(Box(next_x - 2, min(y, next_y), next_x + 2, max(y, next_y)))
    return f'<path d="{path}" class="f"/>', boxes


def _seconds_tick(value: float) -> str:
    return f"{value * 1000:g} ms" if value < 0.999 else f"{value:,.12g} s"


def _mark(row: Standing, x: float, y: float, is_inside: bool) -> str:
    numbers = f"{estimate_text(row.test)}, {seconds_text(row.train_seconds)}"
    if row.searched_cost:
        numbers = f"{number(row.searched_val, 4)}, {cost_text(row)}; {tuned_text(row)}"
    title = f"<title>{escape(plain(f'{row.recipe}: {numbers}'))}</title>"
    if row.seeds_failed and not row.searched_cost:
        return f'<path d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8" class="x">{title}</path>'
    if row.pareto and is_inside:
        return f'<path d="M{x:.1f} {y - 6.5:.1f}l6.5 6.5l-6.5 6.5l-6.5 -6.5z" class="p">{title}</path>'
    kind = "n" if is_inside else "n o"
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" class="{kind}">{title}</circle>'


def _short(name: str) -> str:
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME // 2]}…{name[-_LONGEST_NAME // 2 + 1 :]}"
