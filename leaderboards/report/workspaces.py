"""The description as a W&B Report, through ``wandb-workspaces``; imported only where one is saved."""

from __future__ import annotations

import importlib
from typing import Any

import wandb

from trainoff.leaderboards.publishing.run_content import EPOCH
from trainoff.leaderboards.render.markdown import escaped
from trainoff.leaderboards.report.description import (
    Bars,
    Block,
    Bullets,
    Code,
    Heading,
    Lines,
    Panel,
    Panels,
    Paragraph,
    Parallel,
    Report,
    Scatter,
    Table,
    Verdict,
)

# Its packages claim to be typed and are not: they re-export without saying so.
wr: Any = importlib.import_module("wandb_workspaces.reports.v2")
expr: Any = importlib.import_module("wandb_workspaces.expr")

_LONGEST_TITLE = 128  # W&B's own limit
_MOST_GROUPS = 50  # in a filter; a larger table is all of its suite
_WIDTH, _HEIGHT = 12, 8  # of a panel; a row is 24 wide


def save(report: Report, entity: str, project: str, identity: str = "", is_known: bool = False) -> tuple[str, str]:
    """Save it on the server.

    Args:
        report: What it says.
        entity: Whose project.
        project: The project; it exists.
        identity: Of the Report that it replaces; empty for a new one. One that was deleted is made anew.
        is_known: Whether that Report says the same already: nothing is saved where it still exists.

    Returns:
        Its id and its address.
    """
    if identity and not _exists(identity):
        identity, is_known = "", False
    made = wr.Report(
        entity=entity,
        project=project,
        title=report.title[:_LONGEST_TITLE],
        description=report.summary,
        width="fluid",
        blocks=[] if is_known else blocks_of(report, entity, project),
    )
    if identity:
        made.id = identity
    if not is_known:
        made.save()
    return str(made.id), str(made.url)


def _exists(identity: str) -> bool:
    gql: Any = importlib.import_module("wandb_workspaces.reports.v2.gql")
    graphql: Any = importlib.import_module("wandb_workspaces._graphql")
    return bool(graphql.execute_graphql(wandb.Api(timeout=20), gql.view_report, {"reportId": identity}).get("view"))


def blocks_of(report: Report, entity: str, project: str) -> list[Any]:
    """W&B's blocks. With an entity, a grid of panels asks the server for the project's id when it is saved."""
    return [made for block in report.blocks for made in _blocks(block, entity, project)]


def _blocks(block: Block, entity: str, project: str) -> list[Any]:
    if isinstance(block, Heading):
        return [(wr.H1 if block.level == 1 else wr.H2)(text=block.text)]
    if isinstance(block, Verdict):
        return [wr.CalloutBlock(text=block.text)]
    if isinstance(block, Paragraph):
        return [wr.P(text=block.text)]
    if isinstance(block, Bullets):
        return [wr.UnorderedList(items=list(block.items))]
    if isinstance(block, Code):
        return [wr.CodeBlock(code=block.text, language="python" if block.language == "bash" else block.language)]
    if isinstance(block, Table):
        return [wr.MarkdownBlock(text=table_text(block))]
    assert isinstance(block, Panels)
    return [_grid(block, entity, project)]


def table_text(table: Table) -> str:
    """A table in Markdown, what is best in bold."""
    lines = [f"*{escaped(table.caption)}*", ""] if table.caption else []
    lines.append("| " + " | ".join(map(escaped, table.headers)) + " |")
    lines.append("|" + "|".join(":--" if is_text else "--:" for is_text in table.is_text) + "|")
    leading = table.leading or [False] * len(table.rows)
    for row, is_leading in zip(table.rows, leading, strict=True):
        cells = [f"**{escaped(cell)}**" if is_leading and cell else escaped(cell) for cell in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _grid(block: Panels, entity: str, project: str) -> Any:
    filters = [expr.Config("stage") == block.stage, expr.Config("suite") == _quoted(block.suite)]
    if len(block.groups) <= _MOST_GROUPS:
        filters.insert(0, expr.Metric("Group").isin(list(map(_quoted, block.groups))))
    runs = wr.Runset(entity=entity, project=project, name=block.name, filters=expr.And(*filters))
    panels = [_panel(panel) for panel in block.panels]
    for index, panel in enumerate(panels):
        panel.layout = wr.Layout(x=_WIDTH * (index % 2), y=_HEIGHT * (index // 2), w=_WIDTH, h=_HEIGHT)
    return wr.PanelGrid(runsets=[runs], panels=panels)


def _quoted(text: str) -> str:
    """The library writes a filter as a Python expression and reads it again, without escaping what it quotes."""
    return text.replace("\\", "\\\\").replace("'", "\\'")


def _panel(panel: Panel) -> Any:
    if isinstance(panel, Lines):
        return wr.LinePlot(
            title=panel.title, x=EPOCH, y=list(panel.metrics), title_x=EPOCH, log_y=panel.log or None,
            groupby=wr.Config("recipe"), groupby_aggfunc="mean", groupby_rangefunc="minmax",
        )  # fmt: skip
    if isinstance(panel, Scatter):
        return wr.ScatterPlot(
            title=panel.title, x=wr.SummaryMetric(panel.x), y=wr.SummaryMetric(panel.y), log_x=panel.log_x or None
        )
    if isinstance(panel, Bars):
        return wr.BarPlot(
            title=panel.title, metrics=list(panel.metrics),
            groupby=wr.Config("recipe"), groupby_aggfunc="mean", groupby_rangefunc="minmax",
        )  # fmt: skip
    assert isinstance(panel, Parallel)
    columns = [
        wr.ParallelCoordinatesPlotColumn(wr.Config(key), log=is_log or None)
        for key, is_log in zip(panel.config, panel.log, strict=True)
    ]
    columns.append(wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric(panel.summary)))
    return wr.ParallelCoordinatesPlot(title=panel.title, columns=columns)
