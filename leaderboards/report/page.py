"""The description as one self-contained HTML page: no script, no network, readable in light and dark and on paper."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from html import escape as html_escape
from pathlib import Path

from trainoff.leaderboards.numbers import plain
from trainoff.leaderboards.report.description import (
    Block,
    Bullets,
    Code,
    Figure,
    Heading,
    Panels,
    Paragraph,
    Report,
    Table,
    Verdict,
)

_FRONT = "◆"


def report_page(report: Report) -> str:
    """The page. All text is escaped, and a Content-Security-Policy allows the page's own style only."""
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    sections = [block for block in report.blocks if isinstance(block, Heading) and block.level == 1]
    links = "".join(f'<li><a href="#{_anchor(index)}">{_escape(block.text)}</a></li>'
                    for index, block in enumerate(sections))  # fmt: skip
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_escape(report.title)}</title>",
        f"<style>{style}</style></head><body><main>",
        f"<h1>{_escape(report.title)}</h1>",
    ]
    count = 0
    for index, block in enumerate(report.blocks):
        if isinstance(block, Heading) and block.level == 1:
            parts.append(f'<h2 id="{_anchor(count)}">{_escape(block.text)}</h2>')
            count += 1
        else:
            parts.append(_block(block))
        if index == 0:
            parts.append(f'<nav class="contents" aria-label="Sections"><ul>{links}</ul></nav>')
    parts.append("</main></body></html>")
    return "\n".join(part for part in parts if part) + "\n"


def _block(block: Block) -> str:
    if isinstance(block, Verdict):
        return f'<p class="verdict callout">{_escape(block.text)}</p>'
    if isinstance(block, Heading):
        return f"<h3>{_escape(block.text)}</h3>"
    if isinstance(block, Paragraph):
        return f"<p>{_escape(block.text)}</p>"
    if isinstance(block, Bullets):
        items = "".join(f"<li>{_escape(item)}</li>" for item in block.items)
        return f'<ul class="points">{items}</ul>'
    if isinstance(block, Table):
        return _scrolling(_table(block), block.caption or "Table")
    if isinstance(block, Code):
        return f'<pre tabindex="0"><code>{html_escape(block.text)}</code></pre>'
    return _figures(block)


def _table(table: Table) -> str:
    head = "".join(
        f'<th scope="col"{" class=t" if is_text else ""}>{_escape(header)}</th>'
        for header, is_text in zip(table.headers, table.is_text, strict=True)
    )
    caption = f"<caption>{_escape(table.caption)}</caption>" if table.caption else ""
    lines = [f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>"]
    name = table.headers.index("recipe") if "recipe" in table.headers else 0
    for index, row in enumerate(table.rows):
        failing, leading = _is_marked(table.failing, index), _is_marked(table.leading, index)
        kind = " class=bad" if failing else " class=lead" if leading else ""
        cells = "".join(_cell(cell, place == name, table.is_text[place]) for place, cell in enumerate(row))
        lines.append(f"<tr{kind}>{cells}</tr>")
    return "\n".join(lines) + "</tbody></table>"


def _is_marked(marks: Sequence[bool], index: int) -> bool:
    return bool(marks) and marks[index]


def _cell(text: str, is_name: bool, is_text: bool) -> str:
    if is_name:
        return f'<th scope="row">{_escape(text)}</th>'
    if text == _FRONT:
        return f'<td><span title="on the Pareto front">{text}</span></td>'
    kind = " class=t" if is_text and len(text) < 40 else " class='t wide'" if is_text else ""
    return f"<td{kind}>{_escape(text)}</td>"


def _figures(panels: Panels) -> str:
    """Small plots stand two beside each other; a legend above them."""
    parts, small = [], []
    for figure in panels.figures:
        drawn = f"<figure>{_scrolling(figure.svg, figure.label)}{_caption(figure)}</figure>"
        if 'class="small"' in figure.svg:
            small.append(drawn)
        else:
            parts.append(drawn)
    if small:
        parts.append(f'<div class="grid">{"".join(small)}</div>')
    return "".join(parts) or "<p>There is nothing to draw.</p>"


def _caption(figure: Figure) -> str:
    if not figure.caption:
        return ""
    first, _, rest = figure.caption.partition(". ")
    bold = f"<b>{_escape(first if first.endswith('.') else f'{first}.')}</b>"
    return f"<figcaption>{bold} {_escape(rest)}</figcaption>"


def _scrolling(content: str, label: str) -> str:
    # Focusable, so that a keyboard can scroll it too.
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{_escape(label)}">{content}</div>'


def _anchor(index: int) -> str:
    return f"s{index}"


def _escape(text: str) -> str:
    return html_escape(plain(text))


@lru_cache(maxsize=1)
def _style() -> str:
    here = Path(__file__)
    board = (here.parents[1] / "render" / "board.css").read_text(encoding="utf-8")
    own = here.with_name("report.css").read_text(encoding="utf-8")
    return re.sub(r"\s*\n\s*", "\n", f"{board}\n{own}").strip()
