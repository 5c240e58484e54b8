"""Series from files, and generated melodies of known entropy."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from users_project import make_trainer

from trainoff.datamodules import Melodies, TimeSeries
from trainoff.datamodules.melodies import melodies, melody_source
from trainoff.errors import UserError
from trainoff.modules import Recipe, Regressor


@pytest.fixture
def file(tmp_path: Path) -> str:
    rows = [f"2024-{n},{math.sin(n / 5)},{n % 7},{n * 0.5}" for n in range(400)]
    path = tmp_path / "series.csv"
    path.write_text("\n".join(["day,wave,step,line", *rows]) + "\n")
    return str(path)


@pytest.mark.parametrize(("window", "horizon"), [(1, 1), (10, 1), (12, 5)])
def test_windows_are_followed_by_their_targets(file: str, window: int, horizon: int) -> None:
    data = TimeSeries(file, "line", ["line", "wave"], window, horizon)
    data.setup("fit")
    assert data.target_statistics is not None
    mean, std = (float(np.asarray(value).reshape(-1)[0]) for value in data.target_statistics)
    assert (data.input_shape, data.output_size) == ((2, window), horizon)
    cuts = {"train": (0, 280), "val": (280, 340), "test": (340, 400)}
    for split, (first, last) in cuts.items():
        inputs, targets = data.split(split)
        assert len(inputs) == last - first - window - horizon + 1
        for number in (0, len(inputs) - 1):
            seen = inputs[number, 0].double() * std + mean
            ahead = targets[number].double() * std + mean
            start = first + number
            np.testing.assert_allclose(seen.numpy(), 0.5 * np.arange(start, start + window), atol=1e-3)
            following = np.arange(start + window, start + window + horizon)
            np.testing.assert_allclose(ahead.numpy(), 0.5 * following, atol=1e-3)


def test_columns_are_standardised_by_the_training_rows(file: str) -> None:
    data = TimeSeries(file, "wave", window=4)
    data.setup("fit")
    assert data.feature_names == ("wave", "step", "line")
    inputs, _ = data.split("train")
    rows = torch.cat([inputs[:, :, 0], inputs[-1, :, 1:].T])  # all training rows but the last
    torch.testing.assert_close(rows.double().mean(0), torch.zeros(3).double(), rtol=0, atol=0.02)
    assert data.digest()[:16] == "3fb82b57ec8762f4"


def test_a_net_forecasts_a_wave(file: str) -> None:
    data = TimeSeries(file, "wave", ["wave"], window=8, horizon=2)
    module = Regressor("linear", Recipe({"name": "adam", "lr": 0.05}, batch=32))
    trainer = make_trainer(max_epochs=20)
    trainer.fit(module, datamodule=data)
    assert trainer.callback_metrics["val/r2"] > 0.99  # a wave's next values are linear in two past ones


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "waves"}, "there is no column 'waves'; did you mean wave"),
        ({"target": "day"}, "no numbers"),
        ({"target": "wave", "window": 100}, "make no window of 100 and 1 after it"),
        ({"target": "wave", "window": 0}, "must be at least 1"),
        ({"target": "wave", "path": "none.csv"}, "there is no such file"),
    ],
)
def test_mistakes_are_one_line(file: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TimeSeries(**{"path": file, **arguments}).setup("fit")


def test_a_gap_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gap.csv"
    path.write_text("a\n" + "\n".join(["1.5"] * 9 + ["nan"] + ["2"] * 90) + "\n")
    with pytest.raises(UserError, match="'a' has no value in row 10"):
        TimeSeries(str(path), "a", window=2).setup("fit")


def test_bars_have_four_beats_and_follow_the_rules() -> None:
    text = melodies(200)
    assert melodies(300).startswith(text)
    bars = [bar.split() for bar in text.split("|")[1:]]
    assert len(bars) == 200
    following = {"C": "FGAm", "Am": "FG", "F": "GC", "G": "CAm"}
    for bar, after in itertools.pairwise(bars):
        assert sum(int(note.split("/")[1]) for note in bar[1:]) == 4
        assert after[0] in following[bar[0]]


def test_the_entropy_of_melodies_is_what_their_own_source_needs() -> None:
    source = melody_source()
    drawn = [symbol for symbol, _ in zip(source.symbols(7, "another"), range(60_000), strict=False)]
    assert source.code_bits(drawn) / len(drawn) == pytest.approx(source.entropy_bits(), rel=0.01)
    assert round(source.entropy_bits(), 2) == 2.36


def test_melodies_are_tokens_that_never_change() -> None:
    data = Melodies(bars=2000)
    data.setup("fit")
    inputs, targets = data.split("train")
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert data.decode(inputs[0]).split()[:2] == melodies(2).split()[:2]
    assert data.output_size == 2 + 4 + 14  # special ones, chords, notes of one and two beats
    assert data.digest()[:16] == "88ba8c8ad46b576a"
