"""What a report says, as plain data: a W&B Report and the local page are both made from it and from nothing else."""

from __future__ import annotations

import hashlib

import msgspec


class Heading(msgspec.Struct, tag="heading"):
    """A heading; level 1 begins a section."""

    text: str
    level: int = 1


class Verdict(msgspec.Struct, tag="verdict"):
    """The sentence that a reader in a hurry reads."""

    text: str


class Paragraph(msgspec.Struct, tag="paragraph"):
    """Prose."""

    text: str


class Bullets(msgspec.Struct, tag="bullets"):
    """A list."""

    items: list[str]


class Table(msgspec.Struct, tag="table"):
    """Text cells.

    Attributes:
        is_text: Of each column whether it is aligned to the left.
        leading: Of each row whether it is the best or not separable from it.
        failing: Of each row whether it has failed seeds.
    """

    caption: str
    headers: list[str]
    rows: list[list[str]]
    is_text: list[bool]
    leading: list[bool] = []
    failing: list[bool] = []


class Code(msgspec.Struct, tag="code"):
    """Lines to type or to keep."""

    text: str
    language: str = "bash"


class Figure(msgspec.Struct, tag="figure"):
    """A plot that is drawn already.

    Attributes:
        svg: The drawing, whose colours come from the page.
        caption: What it shows; its first sentence is set in bold. Empty where the drawing says it.
        label: For those who cannot see it.
    """

    svg: str
    caption: str
    label: str


class Lines(msgspec.Struct, tag="lines"):
    """Logged metrics against the epoch, grouped by recipe.

    Attributes:
        title: What is shown.
        metrics: Names under which runs log them; each has a line.
        log: Whether the value's axis is logarithmic.
    """

    title: str
    metrics: list[str]
    log: bool = False


class Scatter(msgspec.Struct, tag="scatter"):
    """Two figures of the runs' summaries against each other."""

    title: str
    x: str
    y: str
    log_x: bool = False


class Bars(msgspec.Struct, tag="bars"):
    """Figures of the runs' summaries as bars, a group a recipe."""

    title: str
    metrics: list[str]


class Parallel(msgspec.Struct, tag="parallel"):
    """A line a run through its hyperparameters and a figure.

    Attributes:
        config: Dotted keys of the runs' configs.
        log: Of each of them whether its axis is logarithmic.
        summary: The figure; the last axis.
    """

    title: str
    config: list[str]
    log: list[bool]
    summary: str


Panel = Lines | Scatter | Bars | Parallel


class Panels(msgspec.Struct, tag="panels"):
    """A grid of panels over some of the board's runs.

    Attributes:
        name: What the set of runs is called.
        groups: The runs' groups: the task, or the tasks that are rows of one table.
        stage: ``final`` or ``tune``.
        suite: Their suite.
        panels: What W&B draws from the runs themselves.
        figures: The same, drawn from the records.
    """

    name: str
    groups: list[str]
    stage: str
    suite: str
    panels: list[Panel]
    figures: list[Figure] = []


Block = Heading | Verdict | Paragraph | Bullets | Table | Code | Panels


class Report(msgspec.Struct):
    """A report.

    Attributes:
        title: Short.
        summary: One sentence, shown where reports are listed.
        blocks: In reading order.
    """

    title: str
    summary: str
    blocks: list[Block] = []

    @property
    def digest(self) -> str:
        """SHA-256 of all that it says."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()
