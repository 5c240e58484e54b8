"""Pairs for sequence to sequence: generated ones, and files."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
import torch

from trainoff.datamodules import PairsFile, SyntheticPairs
from trainoff.datamodules.synthetic_pairs import generate_pairs, written_date
from trainoff.errors import UserError


def decoded(data: SyntheticPairs | PairsFile, split: str) -> list[tuple[str, str]]:
    sources, targets = data.split(split)
    return [(data.decode(source), data.decode(target)) for source, target in zip(sources, targets, strict=True)]


@pytest.mark.parametrize(
    ("kind", "digest"), [("reverse", "7ec4a37436e1d1f7"), ("sort", "1c66d63815820e5e"), ("dates", "f2d8eacd91eab013")]
)
def test_targets_are_the_function_of_their_sources(kind: str, digest: str) -> None:
    data = SyntheticPairs(kind, samples=400)  # type: ignore[arg-type]
    data.setup("fit")
    pairs = [pair for split in ("train", "val", "test") for pair in decoded(data, split)]
    assert len({source for source, _ in pairs}) == 400
    for source, target in pairs:
        if kind == "reverse":
            assert target == "".join(reversed(source))
        elif kind == "sort":
            assert target == "".join(sorted(source))
        else:
            forms = [written_date(datetime.date.fromisoformat(target), form) for form in range(5)]
            assert source in forms
    assert data.digest()[:16] == digest


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (0, "3 March 1997"),
        (1, "March 3, 1997"),
        (2, "the 3rd of March 1997"),
        (3, "3 Mar 1997"),
        (4, "3.3.1997"),
    ],
)
def test_dates_are_written_in_five_forms(form: int, text: str) -> None:
    assert written_date(datetime.date(1997, 3, 3), form) == text


def test_endings_of_days_are_english() -> None:
    endings = [written_date(datetime.date(2000, 1, day), 2).split()[1] for day in (1, 2, 3, 4, 11, 12, 13, 21, 22, 23)]
    assert endings == ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "23rd"]


def test_fewer_pairs_are_the_first_of_more() -> None:
    assert generate_pairs("sort", 50) == generate_pairs("sort", 80)[:50]


def test_a_batch_is_padded_sources_and_targets_between_begin_and_end() -> None:
    data = SyntheticPairs("reverse", samples=100, batch_size=16)
    data.setup("fit")
    for sources, targets in data.val_dataloader():
        assert sources.shape[1:] == data.input_shape
        assert targets.shape[1] == data.target_length
        assert (targets[:, 0] == data.begin_id).all()
        for row in targets.tolist():
            end = row.index(data.end_id)
            assert row.count(data.end_id) == 1
            assert set(row[end + 1 :]) <= {data.padding_id}
            assert data.padding_id not in row[:end]
        assert not torch.isin(sources, torch.tensor([data.begin_id, data.end_id])).any()


def test_pairs_of_a_file_are_split_by_the_seed(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"source {n}\ttarget {n}\r\n" for n in range(50)) + "\n")
    data = PairsFile(str(path))
    data.setup("fit")
    pairs = [pair for split in ("train", "val", "test") for pair in decoded(data, split)]
    assert sorted(pairs) == sorted((f"source {n}", f"target {n}") for n in range(50))
    assert [len(data.split(split)[0]) for split in ("train", "val", "test")] == [40, 5, 5]
    other = PairsFile(str(path), split_seed=1)
    assert decoded(other, "val") != decoded(data, "val")
    assert data.digest()[:16] == "1821e75e37424e03"


def test_words_share_one_vocabulary_and_bytes_per_token_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"le chat {n % 7}\tthe cat {n % 7}\n" for n in range(70)))
    data = PairsFile(str(path), "words")
    data.setup("fit")
    assert data.output_size == 4 + len({"le", "chat", "the", "cat", *map(str, range(7))})  # and four special ones
    assert data.input_shape == (3,)
    assert data.target_length == 5
    assert data.bytes_per_token["train"] == pytest.approx(len("the cat 3") / 4)  # with the end


def test_overlong_pairs_are_left_out_and_said(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"ab{n}\tcd\n" for n in range(40)) + "x" * 30 + "\ty\n")
    data = PairsFile(str(path), length=8)
    with pytest.warns(UserWarning, match=r"1 of \d+ pairs in \w+ have more than 8 tokens and are left out"):
        data.setup("fit")
    assert sum(len(data.split(split)[0]) for split in ("train", "val", "test")) == 40


@pytest.mark.parametrize(
    ("content", "where", "message"),
    [
        (None, "", "cannot be read"),
        ("", "", "holds no pairs"),
        ("a\tb\nc\n", ":2", "has 1 columns; a line is a source, a tab and a target"),
        ("a\tb\n\nc\td\te\n", ":3", "has 3 columns"),
        ("a\t\n", ":1", "a line is a source, a tab and a target"),
    ],
)
def test_a_malformed_file_is_one_line_with_its_number(
    tmp_path: Path, content: str | None, where: str, message: str
) -> None:
    path = tmp_path / "pairs.tsv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        PairsFile(str(path)).setup("fit")
    assert caught.value.where == f"{path}{where}"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "mirror"}, "none of reverse, sort, dates"),
        ({"samples": 5}, "from 10 to"),
        ({"length": 0}, "at least 1"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        SyntheticPairs(**arguments)
