"""Byte pair encoding is a function of the text alone: a split's digest depends on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Many words of equal counts, so that which pair is merged first is a matter of how ties are broken.
PROGRAM = """
import itertools, json
from trainoff.datamodules.vocabularies import build_vocabulary
words = ["".join(letters) for letters in itertools.product("abcdé", "xyz", "uvw", "klm")]
text = " ".join(words * 2) + "\\n" + " ".join(reversed(words)) + "\\n"
vocabulary = build_vocabulary("bpe", [text], 400, ["mask"])
model = json.loads(vocabulary._tokenizer.to_str())["model"]
print(json.dumps([model["vocab"], model["merges"], vocabulary.encode(text).tolist()]))
"""


def vocabulary_of(hash_seed: str, threads: str) -> list[object]:
    pytest.importorskip("tokenizers")
    settings = {"PYTHONHASHSEED": hash_seed, "RAYON_NUM_THREADS": threads, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, **settings}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    vocabulary: list[object] = json.loads(done.stdout)
    return vocabulary


def test_vocabulary_and_merges_are_the_same_in_every_process() -> None:
    first = vocabulary_of("1", "1")
    vocabulary, merges, _ = first
    assert len(vocabulary) == 399  # type: ignore[arg-type]
    assert len(merges) == 399 - 256  # type: ignore[arg-type]
    for seed, threads in (("2", "2"), ("3", "4")):
        assert vocabulary_of(seed, threads) == first
