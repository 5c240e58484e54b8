"""Placing names beside points so that none covers another, a point or a whisker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Average width of a character at 12 px in a wide sans-serif (DejaVu), so that it is enough for any.
CHARACTER = 7.3
LINE = 14.0


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        """Whether the two share any area."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def inside(self, other: Box) -> bool:
        """Whether it lies in the other."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.top >= other.top
            and self.bottom <= other.bottom
        )


@dataclass(frozen=True)
class Label:
    """Where a name goes.

    Args:
        x: Its end that is nearer to the point, or its middle.
        anchor: Which that is: ``start``, ``end`` or ``middle``.
        y: Its baseline.
        far: Whether it needs a line to its point.
        box: What it covers.
    """

    x: float
    anchor: str
    y: float
    far: bool
    box: Box

    def leader(self, x: float, y: float) -> tuple[float, float]:
        """Where a line from the point to the name ends."""
        end = min(max(x, self.box.left), self.box.right)
        middle = (self.box.top + self.box.bottom) / 2
        return end, middle if end != x else middle + (6 if y > middle else -6)


def place(
    points: Sequence[tuple[float, float]], texts: Sequence[str], taken: Sequence[Box], area: Box
) -> list[Label | None]:
    """A place for each name, near its point; the first ones choose first.

    Args:
        points: Pixels of the points.
        texts: Their names.
        taken: What must stay visible: points and whiskers.
        area: Where names may stand.

    Returns:
        ``None`` for a name that finds no place.
    """
    names: list[Box] = []
    lines: list[Box] = []
    placed: list[Label | None] = []
    for (x, y), text in zip(points, texts, strict=True):
        free = [
            each for each in _candidates(x, y, len(text) * CHARACTER) if _is_free(each.box, [*taken, *names], area)
        ]
        # A name across a line, or a line across a name, is better than none.
        label = next((each for each in free if not _crosses(each, x, y, names, lines)), free[0] if free else None)
        placed.append(label)
        if label is not None:
            names.append(label.box)
            lines += _line(label, x, y)
    return placed


def _crosses(label: Label, x: float, y: float, names: Sequence[Box], lines: Sequence[Box]) -> bool:
    if any(label.box.overlaps(dot) for dot in lines):
        return True
    return any(dot.overlaps(name) for dot in _line(label, x, y) for name in names)


def _line(label: Label, x: float, y: float) -> list[Box]:
    return _dots(x, y, *label.leader(x, y)) if label.far else []


def _dots(x: float, y: float, end_x: float, end_y: float, count: int = 16) -> list[Box]:
    """Small boxes along a line."""
    steps = [index / count for index in range(count)]
    centres = [(x + (end_x - x) * step, y + (end_y - y) * step) for step in steps]
    return [Box(a - 1, b - 1, a + 1, b + 1) for a, b in centres]


def _candidates(x: float, y: float, width: float) -> list[Label]:
    found = []
    for distance in (0.0, 14.0, 28.0, 42.0, 56.0, 72.0, 90.0, 110.0):
        for down in (0.0, -distance, distance) if distance else (0.0, -9.0, 9.0):
            for shift in (0.0, distance):
                for end, anchor in ((x + 9 + shift, "start"), (x - 9 - shift, "end")):
                    left, middle = end - (width if anchor == "end" else 0), y + down
                    box = Box(left - 2, middle - LINE / 2, left + width + 2, middle + LINE / 2)
                    found.append(Label(end, anchor, middle + 4, distance > 0, box))
        if distance:
            for middle in (y - distance, y + distance):
                left = x - width / 2
                box = Box(left - 2, middle - LINE / 2, left + width + 2, middle + LINE / 2)
                found.append(Label(x, "middle", middle + 4, distance > 14, box))
    return found


def _is_free(box: Box, occupied: Sequence[Box], area: Box) -> bool:
    return box.inside(area) and not any(box.overlaps(other) for other in occupied)
