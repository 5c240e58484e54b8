"""Every format: legible, escaped, and readable by programs where it is meant to be."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser

import pytest
from record_making import record, records_of

from trainoff.benchmarks.record import Compression, Failure
from trainoff.errors import UserError
from trainoff.leaderboards import Board, Estimate, compare
from trainoff.leaderboards.numbers import (
    bytes_text,
    estimate_text,
    memory_text,
    metric_text,
    number,
    p_text,
    plain,
    seconds_text,
    share_text,
)
from trainoff.leaderboards.render import FORMATS, render
from trainoff.leaderboards.render.columns import columns_of
from trainoff.leaderboards.render.labels import Box, place

HOSTILE = '<script>alert(1)</script>|`*_\\input{x}$&%#~^"\x1b[31m\n[x](http://evil.example)'
SCORES = [0.9, 0.91, 0.92, 0.915]


def board_of(names, **given):
    records = []
    for index, name in enumerate(names):
        scores = [score + 0.004 * index for score in SCORES]
        if index == 2:
            scores[1] = None
        records += records_of(name, scores, seconds=1.0 + index, **given)
        for each in records[-len(scores) :]:
            each.error = each.error and Failure(HOSTILE, HOSTILE)
        records += [record(name, 0, stage="tune", tuned={"optimizer.lr": lr}, **given) for lr in (0.1, 0.2)]
    return Board.from_records(records, [f"/x/{HOSTILE}.json: not JSON"])


NAMES = [f"recipe-{index}-with-a-rather-long-name-and-more-of-it" for index in range(12)]


@pytest.fixture(scope="module")
def board():
    return board_of(NAMES)


@pytest.fixture(scope="module")
def hostile():
    return board_of([HOSTILE, "a", "b"], task=HOSTILE, metric="<b>acc</b>")


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(board, width):
    text = render(board, "terminal", width=width)
    assert max(map(len, text.splitlines())) <= width
    assert text.startswith(board.verdict().split(",")[0][:40])
    for row in board.rows:
        assert any(estimate_text(row.test) in line for line in text.splitlines())
    assert "\x1b" not in text


def test_more_columns_where_there_is_room(board):
    assert "train time" not in render(board, width=60)
    assert "train time" in render(board, width=120)
    assert "memory" in render(board, width=400)
    assert "Not shown at this width" not in render(board, width=400)


def test_shortened_names_stay_apart(board):
    lines = render(board, width=80).splitlines()[3:]
    names = [line.split()[1] for line in lines if "±" in line]
    assert len(names) == len(set(names)) == 12


def test_colour_only_where_asked_for(board):
    assert "\x1b[" in render(board, colour=True)
    assert "\x1b[" not in render(board)  # standard output is no terminal here
    assert str(board) == render(board, colour=False)


def test_in_a_notebook_the_text_is_text(board, monkeypatch):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    comparison = compare(board, NAMES[0], NAMES[1])
    in_notebook = str(board), str(comparison)
    monkeypatch.undo()
    assert in_notebook == (str(board), str(comparison))
    assert all("\n" in text for text in in_notebook)


def test_wide_characters_do_not_break_the_width():
    text = render(board_of(["学習率の低い最適化手法と長い名前", "b", "c"]), width=80)
    from rich.cells import cell_len

    assert max(map(cell_len, text.splitlines())) <= 80


@pytest.mark.parametrize("format", [*FORMATS])
def test_no_control_character_reaches_the_output(hostile, format):
    text = render(hostile, format)
    if format in ("json", "csv"):
        text = text.replace("\\u001b", "")
    assert "\x1b" not in text
    assert "\r" not in text


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen, self.open, self.ids = set(), [], []

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.ids += [value for key, value in attrs if key == "id"]
        assert not any(key.startswith("on") for key, _ in attrs)
        assert not any(key in ("src", "href") and not value.startswith("#") for key, value in attrs)
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("which", ["board", "hostile"])
def test_the_page_is_well_formed_self_contained_and_escaped(which, request):
    text = render(request.getfixturevalue(which), "html")
    page = Tags()
    page.feed(text)
    assert not page.open
    assert "script" not in page.seen
    assert "b" not in page.seen - {"b"} or "<b>acc" not in text
    assert len(page.ids) == len(set(page.ids))
    assert "default-src 'none'" in text
    assert {"svg", "table", "caption", "figcaption"} <= page.seen
    assert "NaN" not in text
    assert "nan" not in re.sub(r"[a-z]*nan[a-z]+", "", text)
    assert "prefers-color-scheme:dark" in text


def test_the_policy_allows_the_pages_own_style(board):
    import base64
    import hashlib

    text = render(board, "html")
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"sha256-{digest}" in text
    assert " style=" not in text


def test_the_notebook_has_tables_only(hostile):
    text = hostile._repr_html_()
    assert "<table>" in text
    assert "<script" not in text
    assert "<svg" not in text


def test_markdown_has_one_line_a_row_and_no_mark_up_of_the_names(hostile):
    text = render(hostile, "markdown")
    assert "<script" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 5
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) == 1
    assert "http://" not in text


def test_latex_is_escaped(hostile):
    text = render(hostile, "latex")
    assert "\\input{" not in text
    assert r"\textbackslash{}input\{x\}\$\&\%\#\textasciitilde{}\textasciicircum{}" in text
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1


@pytest.mark.parametrize("format", ["terminal", "markdown", "html", "latex"])
def test_a_metric_stands_without_the_split_it_was_logged_under(format):
    board = board_of(["a", "b"], metric="val/acc")
    assert "val/acc" not in render(board, format, width=400)
    assert "last test acc" in render(board, "terminal", width=400)
    assert json.loads(render(board, "json"))[0]["metric"] == "val/acc"
    assert [metric_text(name) for name in ("validation_f1", "val_x", "val/", "value")] == ["f1", "x", "val/", "value"]


def test_a_task_is_named_once_in_its_sentence():
    board = Board.from_records([each for task in ("one", "two") for each in records_of("a", SCORES, task=task)])
    assert any(line.startswith("a is alone on one: test") for line in render(board).splitlines())


def test_the_gap_of_a_loss_stands_once():
    equal = records_of("a", SCORES, mode="min", metric="mse", loss_gap=0.02)
    other = records_of("b", SCORES, mode="min", metric="mse")
    assert "gap loss" not in render(Board.from_records(equal), width=400)
    assert "gap loss" in render(Board.from_records([*equal, *other]), width=400)
    # Of an accuracy it is by chance.
    assert "gap loss" in render(Board.from_records(records_of("a", SCORES, loss_gap=0.02)), width=400)


def test_what_the_p_values_are_corrected_for_is_said():
    def notes(*names):
        return " ".join(board_of(names).tables[0].notes)

    assert "the only one on this task, so not corrected" in notes("a", "b")
    assert "Holm-corrected for 2 tests" in notes("a", "b", "fails", "d")
    assert "`trainoff compare` corrects for tasks instead" in notes("a", "b")
    assert "p: " not in notes("a")


def test_json_is_a_list_of_flat_rows(board):
    rows = json.loads(render(board, "json"))
    assert [row["recipe"] for row in rows] == [row.recipe for row in board.rows]
    assert rows[0]["test"] == board.rows[0].test.mean
    assert rows[0]["test_margin"] == board.rows[0].test.margin
    assert rows[-1]["failures"] == {"diverged": 1}
    assert rows[0]["scores"]["1"] == board.rows[0].scores[1]


def test_csv_parses_and_runs_no_formula():
    board = board_of(['=HYPERLINK("x")', 'with,"comma"\nand line', "c"])
    rows = list(csv.DictReader(io.StringIO(render(board, "csv"))))
    assert [row["task"] for row in rows] == ["digits"] * 3
    assert {row["recipe"] for row in rows} == {'\'=HYPERLINK("x")', 'with,"comma"\ufffdand line', "c"}
    assert float(rows[0]["test"]) == board.rows[0].test.mean
    assert json.loads(rows[-1]["failures"]) == {"diverged": 1}


def test_an_unknown_format_names_the_near_ones(board):
    with pytest.raises(UserError, match="did you mean markdown"):
        render(board, "markdow")


def test_empty_boards_render():
    for format in FORMATS:
        render(Board.from_records([]), format)
        render(Board.from_records(records_of("dead", [None, None])), format)
        render(Board.from_records([record("a", 1, 0.0, seconds=0.0), record("b", 1, 0.0, seconds=0.0)]), format)
        render(Board.from_records([record("a", 1, 1e300, mode="min"), record("b", 1, -1e-300, mode="min")]), format)


@pytest.mark.parametrize(
    ("mean", "margin", "text"),
    [
        (0.97123, 0.00412, "0.9712 ± 0.0041"),
        (0.97123, 0.0996, "0.97 ± 0.10"),
        (0.97123, 0.00999, "0.971 ± 0.010"),
        (1234.5, 321.0, "1230 ± 320"),
        (12.345, 1.26, "12.3 ± 1.3"),
        (0.5, None, "0.5"),
        (0.5, 0.0, "0.5 ± 0"),
        (3e12, 2e11, "3e+12 ± 2e+11"),
        (1e-12, 2e-13, "1e-12 ± 2e-13"),
    ],
)
def test_digits_follow_the_interval(mean, margin, text):
    assert estimate_text(Estimate(mean, margin, 5)) == text


def test_units():
    assert [seconds_text(value) for value in (None, 0.0004, 0.0123, 3.4159, 59.96, 1000, 40000)] == [
        "–", "0.40 ms", "12.3 ms", "3.42 s", "60.0 s", "16.7 min", "11.1 h"
    ]  # fmt: skip
    assert memory_text(300 * 2**20) == "300 MiB"
    assert number(1234567) == "1,234,567"
    assert [p_text(value) for value in (None, 0.0001, 0.314, 1.0)] == ["not tested", "p < 0.001", "p = 0.31", "p = 1"]
    assert plain("a\u202eb\x1bc") == "a\ufffdb\ufffdc"


def test_many_recipes_have_a_page():
    text = render(board_of([f"recipe-{index}" for index in range(80)]), "html")
    assert text.count('<th scope="row">') == 80


def test_labels_cover_neither_each_other_nor_points():
    points = [(100.0 + 3 * index, 100.0 + 2 * index) for index in range(14)]
    taken = [Box(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    found = place(points, ["a-recipe-name"] * 14, taken, Box(0, 0, 800, 400))
    boxes = [label.box for label in found if label is not None]
    assert len(boxes) == 14
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in [*boxes[:index], *taken])


def test_what_pruning_has_come_to_stands_where_a_record_says_it():
    names = ["sparsity", "on disk", "latency", "val accuracy before", "val accuracy after"]
    plain_rows = records_of("adamw", [0.9, 0.91])
    pruned = [
        record(
            "pruned",
            seed,
            0.89,
            compression=Compression(
                sparsity=0.9,
                bytes_on_disk=20 * 2**10,
                dense_bytes=100 * 2**10,
                latency_seconds=latency,
                metric_before=0.93,
                metric_after=0.92,
            ),
        )
        for seed, latency in ((1, 1e-4), (2, 3e-4))
    ]
    (table,) = Board.from_records(plain_rows).tables
    assert not {column.header for column in columns_of(table)} & set(names)
    board = Board.from_records([*plain_rows, *pruned])
    (table,) = board.tables
    columns = {column.header: column.cells for column in columns_of(table)}
    order = [row.recipe for row in table.rows]
    cells = {name: columns[name][order.index("pruned")] for name in names}
    assert cells == {
        "sparsity": "90.0 %",
        "on disk": "20.0 KiB (20.0 %)",
        "latency": "0.20 ms",
        "val accuracy before": "0.93",
        "val accuracy after": "0.92",
    }
    assert {columns[name][order.index("adamw")] for name in names} == {"–"}
    row = next(row for row in json.loads(render(board, "json")) if row["recipe"] == "pruned")
    assert (row["sparsity"], row["bytes_on_disk"], row["metric_before"]) == (0.9, 20480, 0.93)
    assert row["latency_seconds"] == pytest.approx(2e-4)
    for form in FORMATS:
        assert render(board, form)


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0.0, "0.0 %"), (0.725, "72.5 %"), (0.99999, "> 99.9 %"), (1.0, "100.0 %")]
)
def test_a_share_is_whole_only_where_it_is(value, text):
    assert share_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (512, "0.500 KiB"), (20480, "20.0 KiB"), (3 * 2**20, "3.00 MiB")]
)
def test_bytes_of_a_file(value, text):
    assert bytes_text(value) == text
