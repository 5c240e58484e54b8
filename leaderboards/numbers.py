"""How numbers are written: as many digits as the interval supports, units beside them, never an invented digit."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any

from trainoff.leaderboards.statistics import Estimate

NOTHING = "–"


def estimate_text(value: Estimate | None) -> str:
    """``0.9712 ± 0.0041``: the margin with two significant digits, the mean to the same place."""
    if value is None:
        return NOTHING
    if not value.margin:  # none, or every seed gave the same
        text = f"{value.mean:.4g}" if abs(value.mean) < 1e4 else number(value.mean, 4)
        return text + (" ± 0" if value.margin == 0 else "")
    place = decimals(value.margin)
    if place > 8 or max(abs(value.mean), value.margin) >= 1e7:
        return f"{value.mean:.3g} ± {value.margin:.2g}"
    if place < 0:
        return f"{round(value.mean, place):.0f} ± {round(value.margin, place):.0f}"
    return f"{value.mean:.{place}f} ± {value.margin:.{place}f}"


def decimals(margin: float) -> int:
    """Decimal places that keep two significant digits of a positive margin; negative for a margin above 100."""
    place = 1 - math.floor(math.log10(margin))
    # 0.0996 rounds to 0.100: one digit fewer
    return place - 1 if round(margin, place) >= 10 ** (2 - place) else place


def number(value: float | None, digits: int = 3) -> str:
    """A plain number with that many significant digits, without an exponent where it stays short."""
    if value is None:
        return NOTHING
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if not -5 <= size <= 7:
        return f"{value:.{digits}g}"
    return f"{value:,.{max(0, digits - 1 - size)}f}"


def seconds_text(value: float | None) -> str:
    """``12 ms``, ``3.42 s``, ``14.2 min``, ``2.1 h``: three significant digits or two."""
    if value is None:
        return NOTHING
    for unit, size, below in (("ms", 1e-3, 0.9995), ("s", 1.0, 999.5), ("min", 60.0, 300 * 60.0)):
        if value < below:
            return f"{number(value / size, 3 if value / size >= 1 else 2)} {unit}"
    return f"{number(value / 3600.0)} h"


def memory_text(value: float | None) -> str:
    """Bytes as MiB."""
    return NOTHING if value is None else f"{number(value / 2**20)} MiB"


def bytes_text(value: float | None) -> str:
    """A file's bytes as KiB or MiB."""
    if value is None:
        return NOTHING
    return f"{number(value / 2**10)} KiB" if value < 2**20 else memory_text(value)


def share_text(value: float | None) -> str:
    """``72.5 %``; an entire share only where it is one."""
    if value is None:
        return NOTHING
    text = f"{100 * value:.1f}"
    return "> 99.9 %" if text == "100.0" and value < 1 else f"{text} %"


def p_text(value: float | None) -> str:
    """``p = 0.31``, ``p < 0.001``."""
    if value is None:
        return "not tested"
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}" if value < 0.995 else "p = 1"


def setting_text(value: Any) -> str:
    """A tuned value, short."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return plain(str(value))


def metric_text(name: str) -> str:
    """A metric's name without the split that it was logged under: ``val/accuracy`` stands as ``test accuracy`` too."""
    return plain(re.sub(r"^val(id|idation)?[/_]", "", name) or name)


def plain(text: str) -> str:
    """Text without control and invisible formatting characters: a record's names come from anywhere.

    An escape sequence would reach the terminal, a line break would end a table's row, and a change of the writing
    direction would show another name than the record holds.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c for c in text)


def count_text(count: int, noun: str) -> str:
    """``1 seed``, ``10 seeds``, ``2 recipes``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
