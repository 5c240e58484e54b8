"""Texts as windows of tokens, their vocabularies, and generated text of known entropy."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainoff.datamodules import Text
from trainoff.datamodules.sentences import entropy_bits_per_byte, sentences, sentences_source
from trainoff.datamodules.text import cut
from trainoff.datamodules.token_datamodule import windows
from trainoff.datamodules.unifilar_source import Arc, UnifilarSource
from trainoff.datamodules.vocabularies import build_vocabulary
from trainoff.errors import UserError

POEM = "The sun went down. The moon came up;\nand all was quiet – até amanhã! " * 40


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "poem.txt"
    path.write_text(POEM, encoding="utf-8")
    return str(path)


@given(count=st.integers(2, 200), length=st.integers(1, 40))
@settings(deadline=None)
def test_windows_tile_the_text_and_targets_are_one_ahead(count: int, length: int) -> None:
    ids = np.arange(count, dtype=np.int64)
    if (count - 1) // length < 1:
        with pytest.raises(UserError, match="make no window"):
            windows(ids, length, "train")
        return
    inputs, targets = windows(ids, length, "train")
    assert inputs.flatten().tolist() == list(range(length * ((count - 1) // length)))
    assert torch.equal(targets, inputs + 1)
    assert count - inputs.numel() <= length


@given(text=st.text(min_size=1, max_size=300), val=st.floats(0.05, 0.4), test=st.floats(0.05, 0.4))
@settings(deadline=None)
def test_the_parts_follow_one_another_and_make_the_whole(text: str, val: float, test: float) -> None:
    parts = cut(text, val, test)
    assert list(parts) == ["train", "val", "test"]
    assert "".join(parts.values()) == text


def test_no_word_is_cut() -> None:
    parts = cut("alpha beta gamma delta " * 50, 0.13, 0.17)
    assert set(" ".join(parts.values()).split()) == {"alpha", "beta", "gamma", "delta"}


@pytest.mark.parametrize("tokens", ["characters", "bytes", "bpe"])
@given(text=st.text(alphabet="abc d\né–", min_size=1, max_size=60))
@settings(deadline=None, max_examples=30)
def test_what_was_encoded_is_decoded_to_the_same(tokens: str, text: str) -> None:
    if tokens == "bpe":
        pytest.importorskip("tokenizers", reason="the extra `text` is not installed")
    vocabulary = build_vocabulary(tokens, ["abc d\né–" * 20], 300, ["mask"])  # type: ignore[arg-type]
    ids = vocabulary.encode(text)
    assert vocabulary.decode(ids) == text
    assert ids.min() >= vocabulary.offset
    assert ids.max() < vocabulary.size
    if tokens == "bytes":
        assert (ids - vocabulary.offset).tolist() == list(text.encode())
    if tokens == "characters":
        assert len(ids) == len(text)


def test_words_are_those_between_spaces_the_most_frequent_first() -> None:
    vocabulary = build_vocabulary("words", ["b a a c b a\nd"], 6, ["mask"])
    assert vocabulary.size == 6  # mask, unknown, and four words
    assert vocabulary.decode(vocabulary.encode("a b zzz")).split()[:2] == ["a", "b"]
    assert vocabulary.encode("zzz").tolist() == [vocabulary.special("unknown")]


def test_the_vocabulary_is_the_training_texts_and_what_it_lacks_is_said(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("abcd " * 100 + "xyz " * 20)
    data = Text(str(path), length=4, val_fraction=0.1, test_fraction=0.1)
    with pytest.warns(UserWarning, match=r"read as 'unknown': .* in val"):
        data.setup("fit")
    assert data.output_size == 2 + len(set("abcd "))
    assert data.unknown_id in data.split("test")[0]
    known = Text(str(path), "bytes", 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        known.setup("fit")


@pytest.mark.parametrize("tokens", ["characters", "bytes", "words"])
def test_bytes_per_token_are_counted(file: str, tokens: str) -> None:
    data = Text(file, tokens, length=8)  # type: ignore[arg-type]
    data.setup("fit")
    text = data.load_texts()["val"]
    count = {"characters": len(text), "bytes": len(text.encode()), "words": len(text.replace("\n", " \n ").split(" "))}
    expected = len(text.encode()) / len(data.vocabulary.encode(text))
    assert data.bytes_per_token["val"] == pytest.approx(expected)
    if tokens != "words":
        assert len(data.vocabulary.encode(text)) == count[tokens]


def test_a_file_is_read_in_order(file: str) -> None:
    data = Text(file, length=16)
    data.setup("fit")
    inputs, targets = data.split("train")
    read = data.decode(inputs.flatten())
    assert POEM.startswith(read)
    assert data.decode(targets.flatten()) == POEM[1 : len(read) + 1]
    assert POEM.endswith(data.load_texts()["test"])
    assert data.input_shape == (16,)
    assert data.mask_id is not None
    assert data.mask_id not in inputs


def test_two_files_of_one_content_have_one_digest(file: str, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text(POEM, encoding="utf-8")
    digests = {data.digest() for data in (Text(file, length=16), Text(str(other), length=16))}
    assert len(digests) == 1
    other.write_text(POEM.replace("moon", "mood"), encoding="utf-8")
    assert Text(str(other), length=16).digest() not in digests


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (None, {}, "cannot be read (No such file or directory); give the path of a text file"),
        (b"ab\xff\xfe" * 99, {}, "is not UTF-8 at byte 2; convert it, or use tokens: bytes"),
        (b"", {}, "make no window"),
        (b"abc" * 9, {"length": 64}, "make no window of 64"),
        (b"abc" * 99, {"tokens": "letters"}, "'letters' is none of characters, bytes, words and bpe"),
        (b"abc" * 99, {"length": 0}, "must be at least 1"),
        (b"abc" * 99, {"val_fraction": 0.6, "test_fraction": 0.5}, "must be between 0 and 1 - val_fraction"),
    ],
)
def test_a_wrong_text_is_one_line(tmp_path: Path, content: bytes | None, arguments: dict, message: str) -> None:
    path = tmp_path / "t.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        Text(str(path), **arguments).setup("fit")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_any_bytes_are_read_as_bytes(tmp_path: Path) -> None:
    path = tmp_path / "t.bin"
    content = bytes(range(256)) * 8
    path.write_bytes(content)
    data = Text(str(path), "bytes", 16)
    data.setup("fit")
    inputs, _ = data.split("train")
    assert (inputs.flatten() - data.vocabulary.offset).tolist() == list(content[: inputs.numel()])


def test_the_generated_text_never_changes() -> None:
    data = Text()
    data.setup("fit")
    assert data.digest()[:16] == "9b20cae15203a0be"
    assert [len(data.split(name)[0]) for name in ("train", "val", "test")] == [2500, 312, 312]
    assert sentences(200).isascii()
    assert sentences(300)[:200] == sentences(200)


def test_the_entropy_of_a_source_is_the_closed_form() -> None:
    """Two states: H = π₀ h(p) + π₁ h(q), with π the stationary distribution (Cover & Thomas 2006, example 4.2.1)."""
    source = UnifilarSource(
        {"a": [Arc("x", 3, "a"), Arc("y", 1, "b")], "b": [Arc("x", 1, "a"), Arc("y", 1, "b")]}, "a"
    )
    p, q = 1 / 4, 1 / 2
    pi = q / (p + q)
    expected = pi * (-0.75 * math.log2(0.75) - 0.25 * math.log2(0.25)) + (1 - pi) * 1.0
    assert source.entropy_bits() == pytest.approx(expected)
    assert source.stationary()["a"] == pytest.approx(pi)
    drawn = [symbol for symbol, _ in zip(source.symbols(0, "test"), range(40_000), strict=False)]
    assert source.code_bits(drawn) / 40_000 == pytest.approx(expected, rel=0.01)


def test_the_generated_sentences_have_the_entropy_that_is_said() -> None:
    """By Monte Carlo: the bits that the true model needs for a million characters."""
    source = sentences_source()
    drawn, length = [], 0
    for symbol in source.symbols(1, "another draw"):
        drawn.append(symbol)
        length += len(symbol)
        if length > 1_000_000:
            break
    assert source.code_bits(drawn) / length == pytest.approx(entropy_bits_per_byte(), rel=0.005)
    assert Text().entropy_bits_per_byte == entropy_bits_per_byte()
