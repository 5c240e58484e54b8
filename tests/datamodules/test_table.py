"""Tables of one's own, against scikit-learn's encoders; what is inferred, what is missing, what is refused."""

from __future__ import annotations

import datetime
import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from trainoff.command_line import main
from trainoff.datamodules import Table
from trainoff.datamodules.table_columns import OneHot, Standardised, encoder_of
from trainoff.errors import UserError


def houses(count: int = 200) -> dict[str, list[Any]]:
    generator = np.random.default_rng(0)
    area = generator.uniform(20, 200, count).round(1)
    return {
        "id": list(range(count)),
        "area": [None if n % 17 == 0 else float(a) for n, a in enumerate(area)],
        "rooms": [int(a // 25) + 1 for a in area],
        "kind": [["flat", "house", None][n % 3] for n in range(count)],
        "garden": [bool(n % 2) for n in range(count)],
        "country": ["FR"] * count,
        "price": [None if n == 5 else float(3 * a + n / 1000) for n, a in enumerate(area)],
    }


def write(path: Path, columns: dict[str, list[Any]]) -> str:
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.table(columns), path)
        return str(path)
    mark = "\t" if path.suffix == ".tsv" else ","
    rows = [mark.join(map(as_text, row)) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join([mark.join(columns), *rows]) + "\n")
    return str(path)


def as_text(cell: Any) -> str:
    return "" if cell is None else str(cell).lower() if isinstance(cell, bool) else str(cell)


@pytest.mark.parametrize("name", ["houses.csv", "houses.tsv", "houses.parquet"])
def test_a_table_is_what_scikit_learn_makes_of_it(tmp_path: Path, name: str) -> None:
    columns = houses()
    data = Table(write(tmp_path / name, columns), "price", ignore=["id"])
    data.setup("fit")
    assert data.task == "regression"
    names = ["area", "area missing", "rooms", "kind=missing", "kind=flat", "kind=house", "garden=False", "garden=True"]
    assert list(data.feature_names) == names
    kept = [n for n, price in enumerate(columns["price"]) if price is not None]
    order = {round(float(columns["price"][n]), 6): n for n in kept}
    assert data.target_statistics is not None
    mean, std = (float(np.asarray(value).reshape(-1)[0]) for value in data.target_statistics)
    rows = {}
    for split in ("train", "val", "test"):
        prices = (data.split(split)[1][:, 0].double() * std + mean).tolist()
        rows[split] = [order[min(order, key=lambda price, near=near: abs(price - near))] for near in prices]
    area = np.array([np.nan if a is None else a for a in columns["area"]])[:, None]
    imputer, scaler = SimpleImputer().fit(area[rows["train"]]), StandardScaler()
    filled = imputer.transform(area)
    # the deviation is that of the numbers that are there
    scaler.fit(area[rows["train"]])
    kinds = np.array([k or "" for k in columns["kind"]])[:, None]
    encoder = OneHotEncoder(sparse_output=False).fit(kinds[rows["train"]])
    for split, chosen in rows.items():
        inputs = data.split(split)[0].numpy()
        np.testing.assert_allclose(inputs[:, 0], scaler.transform(filled)[chosen, 0], atol=1e-5)
        assert inputs[:, 1].tolist() == np.isnan(area)[chosen, 0].astype(float).tolist()
        np.testing.assert_array_equal(inputs[:, 3:6], encoder.transform(kinds)[chosen])


def test_what_was_done_is_said(tmp_path: Path) -> None:
    data = Table(write(tmp_path / "houses.csv", houses()), "price", ignore=["id"])
    data.setup("fit")
    assert data.notes == [
        "1 of 200 rows have no price and are left out",
        "area is missing in 12 of 199 rows: the training mean stands in, and a column marks it",
        "kind is missing in 65 of 199 rows: a value of its own",
        "country has one value in training and is left out",
    ]


@given(values=st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=3, max_size=60))
@settings(deadline=None)
def test_standardised_columns_have_mean_0_and_deviation_1_in_training(values: list[float | None]) -> None:
    column = pa.chunked_array([pa.array(values, pa.float64())])
    train = np.arange(len(values) - 1)
    encoder = Standardised("x", column, train)
    known = np.array([v for v in values[:-1] if v is not None])
    if "x" not in encoder.names:
        assert len(set(known.tolist())) < 2
        return
    features = encoder.encode(column)
    present = features[train][[v is not None for v in values[:-1]], 0].astype(np.float64)
    assert abs(present.mean()) < 1e-3
    # numbers that are almost equal lose their digits in float32
    assert known.std() < 1e-6 * abs(known).max() or abs(present.std() - 1) < 1e-3
    absent = features[[v is None for v in values], 0]
    assert np.abs(absent).max(initial=0) < 1e-5


@given(values=st.lists(st.sampled_from(["a", "b", "c", None]), min_size=4, max_size=40), cut=st.integers(2, 4))
@settings(deadline=None)
def test_one_hot_columns_tell_the_value(values: list[str | None], cut: int) -> None:
    column = pa.chunked_array([pa.array(values, pa.string())])
    encoder = OneHot("x", column, np.arange(cut))
    known = sorted({v or "" for v in values[:cut]})
    if len(known) < 2:
        assert encoder.names == ()
        return
    for value, features in zip(values, encoder.encode(column), strict=True):
        found = [known[place] for place in np.flatnonzero(features)]
        assert found == ([value or ""] if (value or "") in known else [])


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        (["yes", "no"], "classification", ("no", "yes")),
        ([True, False], "classification", ("False", "True")),
        ([3, 1, 2], "classification", ("1", "2", "3")),
        ([0.5, 1.5], "regression", ()),
        (list(range(100)), "regression", ()),
    ],
)
def test_the_task_is_inferred_from_the_target(
    tmp_path: Path, values: list[Any], task: str, classes: tuple[str, ...]
) -> None:
    columns = {"x": list(range(200)), "y": [values[n % len(values)] for n in range(200)]}
    data = Table(write(tmp_path / "t.parquet", columns), "y")
    data.setup("fit")
    assert data.task == task
    assert data.class_names == classes
    assert data.num_classes == (len(classes) or None)
    assert data.output_size == (len(classes) or 1)
    targets = torch.cat([data.split(split)[1] for split in ("train", "val", "test")])
    assert targets.dtype == (torch.int64 if classes else torch.float32)
    if classes:
        assert torch.bincount(targets).tolist() == [sum(str(y) == c for y in columns["y"]) for c in classes]


def test_splits_depend_on_the_seed_alone_and_the_digest_on_the_content(tmp_path: Path) -> None:
    columns = houses()
    one, same = (Table(write(tmp_path / name, columns), "rooms") for name in ("a.parquet", "b.parquet"))
    assert one.digest() == same.digest()
    assert one.digest()[:16] == "5f7a358c527abcb6"
    assert Table(str(tmp_path / "a.parquet"), "rooms", split_seed=1).digest() != one.digest()
    columns["rooms"][3] += 1
    assert Table(write(tmp_path / "c.parquet", columns), "rooms").digest() != one.digest()


def refusal(path: Path, target: str = "price", **arguments: Any) -> str:
    with pytest.raises(UserError) as caught:
        Table(str(path), target, **arguments).setup("fit")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "houses.csv", houses()))
    assert "there is no such file" in refusal(tmp_path / "none.csv")
    assert "there is no column 'prize'; did you mean price" in refusal(path, "prize")
    assert "no column 'idd'; did you mean id" in refusal(path, ignore=["idd"])
    assert "has one value, FR" in refusal(path, "country")
    assert "task: classification" in refusal(path, "kind", task="regression")
    assert "none of .csv, .tsv and .parquet" in refusal(tmp_path / "t.xls")
    (tmp_path / "empty.csv").write_text("")
    assert "cannot be read" in refusal(tmp_path / "empty.csv")
    (tmp_path / "header.csv").write_text("a,price\n")
    assert "holds no rows" in refusal(tmp_path / "header.csv")
    (tmp_path / "ragged.csv").write_text("a,price\n1,2\n3\n")
    assert "cannot be read" in refusal(tmp_path / "ragged.csv")
    whole = Path(write(tmp_path / "whole.parquet", houses())).read_bytes()
    (tmp_path / "half.parquet").write_bytes(whole[: len(whole) // 2])
    assert "half.parquet: cannot be read" in refusal(tmp_path / "half.parquet")
    columns = {"when": [f"2024-01-{n % 28 + 1:02}" for n in range(200)], "price": list(np.arange(200) / 3)}
    assert "'when' holds date32[day], neither numbers nor text" in refusal(Path(write(tmp_path / "d.csv", columns)))
    columns = {"name": [f"n{n}" for n in range(200)], "price": list(np.arange(200) / 3)}
    assert "'name' has 120 different values in training" in refusal(Path(write(tmp_path / "n.csv", columns)))
    (tmp_path / "twice.csv").write_text("a,a,price\n1,2,3\n")
    assert "has 2 columns named 'a'" in refusal(tmp_path / "twice.csv")
    assert "write [id]" in refusal(path, ignore="id")
    prices = list(np.arange(200) / 3)
    for number in (float("inf"), 1e300):
        columns = {"a": [number, *range(199)], "price": prices}
        assert "'a' has numbers that are infinite or beyond float32 in 1 rows" in refusal(
            Path(write(tmp_path / "i.parquet", columns))
        )
        columns = {"a": prices, "price": [number, *prices[1:]]}
        assert "'price' has numbers that are infinite" in refusal(Path(write(tmp_path / "i.parquet", columns)))
    for values in ([[1]] * 200, [datetime.date(2024, 1, 1 + n % 28) for n in range(200)]):
        columns = {"a": prices, "price": values}
        assert "neither numbers nor text" in refusal(Path(write(tmp_path / "l.parquet", columns)))


def test_whole_numbers_of_64_bits_are_standardised(tmp_path: Path) -> None:
    values = [2**60 + 2**50 * n for n in range(200)]
    data = Table(write(tmp_path / "t.parquet", {"a": values, "y": [n / 7 for n in range(200)]}), "y")
    inputs, targets = data.split("train")
    # a and y are the same line, so that they are the same when standardised
    np.testing.assert_allclose(inputs.numpy(), targets.numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "places", "treatment"),
    [
        (pa.float64(), [0], "the training mean stands in, and a column marks it"),
        (pa.float64(), [9], "the training mean stands in"),
        (pa.string(), [0], "a value of its own"),
        (pa.string(), [9], "all zeros, as no training row is"),
    ],
)
def test_what_is_missing_only_in_evaluation_is_said_as_it_is(kind: Any, places: list[int], treatment: str) -> None:
    values = pa.chunked_array([pa.array([None if n in places else str(n % 4) for n in range(10)]).cast(kind)])
    encoder = encoder_of("x", values, np.arange(9), 100, "t.csv")
    assert encoder.treatment == treatment
    assert ("x missing" in encoder.names) == ("a column marks it" in treatment)
    assert encoder.encode(values).shape == (10, len(encoder.names))


@pytest.mark.slow
def test_a_suite_runs_on_a_table(tmp_path: Path) -> None:
    write(tmp_path / "houses.csv", houses())
    (tmp_path / "suite.yaml").write_text(
        textwrap.dedent(f"""
        name: houses
        seeds: 1
        tasks:
          houses:
            module: {{name: regressor, net: {{name: mlp, hidden: [8]}}}}
            data: {{name: table, path: {tmp_path / "houses.csv"}, target: price, ignore: [id]}}
            metric: r2
            budget: {{epochs: 30}}
        recipes:
          adam: {{optimizer: {{name: adam, lr: 0.02}}, batch: 32}}
        """)
    )
    assert main(["run", str(tmp_path / "suite.yaml"), "--out", str(tmp_path / "run"), "--json"]) == 0
    (record,) = (tmp_path / "run" / "records").glob("*.json")
    assert json.loads(record.read_text())["quality"]["last"]["test"]["metric"] > 0.8
