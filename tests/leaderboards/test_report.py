"""The report says what the board says; its page and its W&B form are made from one description."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from publishing_records import records, run_folder, with_curves
from record_making import record

from trainoff import read_board
from trainoff.leaderboards.publishing.run_content import content_of
from trainoff.leaderboards.render.columns import columns_of
from trainoff.leaderboards.report.curve_plots import band_of, curve_plot
from trainoff.leaderboards.report.description import (
    Bars,
    Bullets,
    Code,
    Heading,
    Lines,
    Panels,
    Parallel,
    Report,
    Scatter,
    Table,
    Verdict,
)
from trainoff.leaderboards.report.making import make_report
from trainoff.leaderboards.report.page import report_page
from trainoff.leaderboards.report.parallel_coordinates import Path as ParallelPath
from trainoff.leaderboards.report.parallel_coordinates import parallel_plot


def report_of(folder, made):
    return make_report(read_board(folder), made, folder)


@pytest.fixture
def made():
    return records()


@pytest.fixture
def report(tmp_path, made):
    return report_of(run_folder(tmp_path / "run", made), made)


def blocks(report: Report, kind):
    return [block for block in report.blocks if isinstance(block, kind)]


def test_it_says_what_the_board_says(report, tmp_path):
    board = read_board(tmp_path / "run")
    assert report.blocks[0] == Verdict(board.verdict())
    assert report.summary == board.verdict()
    standings = next(table for table in blocks(report, Table) if "test accuracy" in table.headers)
    columns = columns_of(board.tables[0])
    assert standings.headers == [column.header for column in columns]
    assert standings.rows == [list(cells) for cells in zip(*(column.cells for column in columns), strict=True)]
    notes = [item for bullets in blocks(report, Bullets) for item in bullets.items]
    assert set(board.tables[0].notes) <= set(notes)


def test_it_says_what_was_compared_and_how(report):
    told = " ".join(item for bullets in blocks(report, Bullets) for item in bullets.items)
    for words in ("judged by accuracy", "3 seeds a recipe", "5 of 6 final trials finished well", "2 trials a recipe",
                  "lr (2 values)", "a processor (cpu), 1 thread", "torch 2.13"):  # fmt: skip
        assert words in told
    recipes = next(table for table in blocks(report, Table) if table.headers == ["recipe", "trained with"])
    assert recipes.rows == [["adamw", "optimizer adamw (lr tuned)"], ["sgd", "optimizer sgd (lr tuned)"]]
    assert recipes.caption.endswith("all with batch 64")
    assert "name: a-suite" in blocks(report, Code)[-1].text


def test_failures_are_told(report, tmp_path):
    headings = [block.text for block in blocks(report, Heading)]
    failures = report.blocks[headings.index("Failures") and report.blocks.index(Heading("Failures")) + 1]
    assert failures.rows == [["digits", "sgd", "1 of 3", "1 diverged: the loss is not finite", "", "sgd-final-3-001"]]
    fine = [with_curves(record(recipe, seed, 0.9)) for recipe in ("a", "b") for seed in (1, 2, 3)]
    other = report_of(run_folder(tmp_path / "fine", fine), fine)
    assert "No trial failed." in report_page(other)


def test_panels_name_what_runs_log_and_sum_up(report, made):
    rows = {key for record in made for row in content_of(record).rows for key in row}
    figures = {key for record in made for key in content_of(record).summary}
    panels = [panel for block in blocks(report, Panels) for panel in block.panels]
    assert {type(panel) for panel in panels} == {Lines, Scatter, Bars, Parallel}
    for panel in panels:
        if isinstance(panel, Lines):
            assert set(panel.metrics) <= rows
        elif isinstance(panel, Scatter):
            assert {panel.x, panel.y} <= figures
        elif isinstance(panel, Bars):
            assert set(panel.metrics) <= figures
        else:
            assert panel.summary in figures
            for key in panel.config:
                config = content_of(made[0]).config
                for part in key.split("."):
                    config = config[part]
                assert config is not None


def test_every_panel_has_its_drawing(report):
    assert [len(block.figures) for block in blocks(report, Panels)] == [1, 1, 5, 1]
    for block in blocks(report, Panels):
        for figure in block.figures:
            ElementTree.fromstring(figure.svg)


def test_the_page_is_self_contained_and_escapes_what_it_is_told(tmp_path):
    evil = "<script>alert(1)</script>"
    made = [with_curves(record(recipe, seed, 0.9, task=f"t{evil}")) for recipe in (evil, "b") for seed in (1, 2, 3)]
    for index, each in enumerate(made):
        each.trial.id = f"trial{index}"
    page = report_page(report_of(run_folder(tmp_path / "run", made), made))
    assert "<script" not in page
    assert html.escape(evil) in page
    assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//""", page)
    style = re.search(r"<style>(.*?)</style>", page, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in page
    assert " style=" not in page
    for target in re.findall(r'href="#(\w+)"', page):
        assert f'id="{target}"' in page
    identities = re.findall(r'\bid="([^"]+)"', page)
    assert len(identities) == len(set(identities))


def test_several_tasks_have_a_section_each(tmp_path):
    made = [
        with_curves(record(recipe, seed, 0.9 + seed / 100, task=task, identity=f"{task}{recipe}{seed}"))
        for task in ("one", "two") for recipe in ("a", "b") for seed in (1, 2, 3)
    ]  # fmt: skip
    report = report_of(run_folder(tmp_path / "run", made), made)
    assert [block.text for block in blocks(report, Heading) if block.level == 1] == [
        "What was compared", "Task: one", "Task: two", "Failures", "How to reproduce",
    ]  # fmt: skip
    assert [block.groups for block in blocks(report, Panels)] == [["one"]] * 4 + [["two"]] * 4
    assert report.blocks[0].text == read_board(tmp_path / "run").verdict()


@pytest.mark.parametrize("mark", ["candidate_of", "row_of"])
def test_tasks_that_are_rows_of_one_table(mark, tmp_path):
    """An architecture search's candidates, and nets beside each other: the runs' groups are the tasks themselves."""
    made = []
    for number, net in enumerate(("small", "large"), 1):
        config = {"metric": "accuracy", "mode": "max", "module": {"net": net}, mark: "cells"}
        for stage, seeds in (("tune", [0]), ("final", [1, 2, 3])):
            for seed in seeds:
                each = with_curves(record("adamw", seed, 0.8 + number / 50 + seed / 500, task=net, task_config=config,
                                          stage=stage, identity=f"{net}-{stage}-{seed}"))  # fmt: skip
                each.cost.parameters = 1000 * number
                made.append(each)
    folder = run_folder(tmp_path / "run", made)
    (folder / "suite.yaml").unlink()
    report = report_of(folder, made)
    assert {tuple(block.groups) for block in blocks(report, Panels)} == {("large", "small")}
    scatter = blocks(report, Panels)[0].panels[0]
    expected = ("cost/parameters", "tune") if mark == "candidate_of" else ("cost/train_seconds", "final")
    assert (scatter.x, blocks(report, Panels)[0].stage) == expected
    drawn = next(block for block in blocks(report, Panels) if isinstance(block.panels[0], Lines))
    assert [name in drawn.figures[0].svg for name in ("small", "large")] == [True, True]
    assert report_page(report).count("<svg") >= 6


def test_records_without_curves_make_a_report_all_the_same(tmp_path):
    made = [record("a", 1, 0.9), record("b", 1, status="crashed")]
    page = report_page(report_of(run_folder(tmp_path / "run", made), made))
    assert "There is nothing to draw." in page


def test_the_wandb_form_has_the_same_text(report, monkeypatch):
    """Without an entity the library asks no server; with one, tests/leaderboards/publishing looks at what is saved."""
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    pytest.importorskip("wandb_workspaces")
    from trainoff.leaderboards.report.workspaces import blocks_of

    made = [block._to_model().model_dump(by_alias=True, exclude_none=True) for block in blocks_of(report, "", "")]
    spec = json.dumps(made, ensure_ascii=False)
    for block in report.blocks:
        if isinstance(block, (Heading, Verdict)):
            assert json.dumps(block.text, ensure_ascii=False)[1:-1] in spec
        if isinstance(block, Panels):
            assert all(panel.title in spec for panel in block.panels)


@pytest.mark.parametrize("name", ["digits", """it's "a" task""", "a\\\\b", "a, b] and (c", "ünï ±"])
def test_a_filter_holds_any_task_s_name(name, monkeypatch):
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    pytest.importorskip("wandb_workspaces")
    from trainoff.leaderboards.report.workspaces import blocks_of

    (grid,) = blocks_of(Report("t", "", [Panels("runs", [name], "final", name, [])]), "", "")
    (runset,) = grid._to_model().model_dump(by_alias=True)["metadata"]["runSets"]
    assert [each["value"] for each in runset["filters"]["filters"]] == [[name], "final", name]


curves = st.lists(st.lists(st.none() | st.floats(-1e6, 1e6), max_size=12), min_size=1, max_size=5)


@given(curves)
def test_a_band_is_the_mean_the_least_and_the_largest(given):
    band = band_of("r", 0, given)
    table = np.full((len(given), max(map(len, given))), np.nan)
    for index, curve in enumerate(given):
        table[index, : len(curve)] = [np.nan if value is None else value for value in curve]
    known = ~np.all(np.isnan(table), axis=0)
    assert [point[0] for point in band.points] == (np.flatnonzero(known) + 1).tolist()
    if known.any():
        expected = np.stack(
            [np.nanmean(table[:, known], 0), np.nanmin(table[:, known], 0), np.nanmax(table[:, known], 0)]
        )
        found = np.array([point[1:] for point in band.points]).T
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-9)
    svg = curve_plot("loss", [band], "i")
    if svg:
        assert "nan" not in ElementTree.tostring(ElementTree.fromstring(svg)).decode()


@given(st.lists(st.lists(st.none() | st.floats(), max_size=12), min_size=1, max_size=5), st.booleans())
def test_any_curve_can_be_drawn(given, lower_is_better):
    svg = curve_plot("loss", [band_of("r", 0, given)], "i", lower_is_better)
    assert not svg or ElementTree.fromstring(svg) is not None
    assert "nan" not in svg
    assert "inf" not in svg


def test_parallel_axes_put_values_in_order():
    """A larger rate stands higher; a value that is missing stands below the axis."""
    paths = [ParallelPath("a", 0, {"lr": rate}, score) for rate, score in ((0.001, 0.5), (0.1, 0.9), (0.01, 0.7))]
    svg = parallel_plot({"lr": "lr"}, "val accuracy", [*paths, ParallelPath("b", 1, {}, 0.6)], "i")
    heights = {}
    for path in ElementTree.fromstring(svg).iter("path"):
        if path.get("class", "").startswith("k thin"):
            (_, y), (_, end) = (map(float, point.split()) for point in path.get("d")[1:].split("L"))
            heights[path[0].text.split(":")[1].strip() or "none"] = (y, end)
    ordered = sorted(heights, key=lambda name: -heights[name][0])
    assert ordered == ["none", "lr=0.001", "lr=0.01", "lr=0.1"]
    assert heights["lr=0.1"][1] < heights["lr=0.01"][1] < heights["none"][1] < heights["lr=0.001"][1]
    middle = (heights["lr=0.001"][0] + heights["lr=0.1"][0]) / 2
    assert heights["lr=0.01"][0] == pytest.approx(middle, abs=0.11), "the axis of rates is logarithmic"
