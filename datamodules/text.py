"""Language modelling on any text file, or on generated sentences."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from trainoff.datamodules.facts.entry import DataModuleEntry
from trainoff.datamodules.facts.token_sets import TEXT
from trainoff.datamodules.sentences import entropy_bits_per_byte, sentences
from trainoff.datamodules.token_datamodule import TokenDataModule
from trainoff.datamodules.vocabularies import Tokens
from trainoff.errors import UserError

_GENERATED_CHARACTERS = 400_000


class Text(TokenDataModule):
    """A text cut into three consecutive parts: the first trains, the next validates, the last tests.

    Without ``path`` the text is 400,000 characters of generated sentences in which verbs agree with their subjects
    over clauses; no model of them goes below ``entropy_bits_per_byte`` (0.656) in the long run. For a file that
    attribute is None.

    Args:
        path: A text file, UTF-8 (with ``tokens: bytes``, any file).
        tokens: ``characters``, ``bytes``, ``words`` or ``bpe``.
        length: Tokens in a window.
        vocabulary: The most tokens that ``words`` and ``bpe`` keep.
        val_fraction: The share of the characters that validates.
        test_fraction: The share of the characters that tests.
        batch_size: See :class:`TokenDataModule`.
        microbatches: Parts of each training batch.

    Raises:
        UserError: Where a share is out of range; later, where the file is missing, is no text or is too short.
    """

    facts: ClassVar[DataModuleEntry] = TEXT

    def __init__(
        self,
        path: str | None = None,
        tokens: Tokens = "characters",
        length: int = 128,
        vocabulary: int = 1000,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        batch_size: int | Literal["full"] = 32,
        microbatches: int = 1,
    ) -> None:
        super().__init__(tokens, length, vocabulary, batch_size, microbatches)
        self.path, self.shares = path, (val_fraction, test_fraction)
        check_shares(val_fraction, test_fraction)
        self.entropy_bits_per_byte = entropy_bits_per_byte() if path is None else None

    def load_texts(self) -> Mapping[str, str]:
        """The three parts."""
        if self.path is None:
            return cut(sentences(_GENERATED_CHARACTERS), *self.shares)
        text = read_text(Path(self.path).expanduser(), is_binary=self.tokens == "bytes")
        self.licence, self.citation, self.size_bytes = (
            "the file's own",
            "",
            Path(self.path).expanduser().stat().st_size,
        )
        return cut(text, *self.shares)


def check_shares(val_fraction: float, test_fraction: float) -> None:
    """Raise :class:`UserError` where the shares leave nothing to train on, or are none."""
    if not 0 < val_fraction < 1:
        raise UserError(f"{val_fraction} is not a share; it must be between 0 and 1", "val_fraction")
    if not 0 < test_fraction < 1 - val_fraction:
        raise UserError(f"{test_fraction} must be between 0 and 1 - val_fraction", "test_fraction")


def cut(text: str, val_fraction: float, test_fraction: float) -> dict[str, str]:
    """Consecutive parts of a text: train, val, test; no word is cut, unless it has more than 200 characters."""
    val, test = round(val_fraction * len(text)), round(test_fraction * len(text))
    first = _after_space(text, len(text) - val - test)
    second = max(first, _after_space(text, len(text) - test))
    return {"train": text[:first], "val": text[first:second], "test": text[second:]}


def _after_space(text: str, place: int) -> int:
    """The first place from here on that a space comes before."""
    space = re.compile(r"\s").search(text, max(0, place - 1), place + 200)
    return space.end() if space else place


def read_text(path: Path, is_binary: bool = False) -> str:
    """A file's text, its line ends as they are.

    Args:
        path: The file.
        is_binary: Keep bytes that are no UTF-8, as Python's surrogate escapes.

    Raises:
        UserError: Naming the file, and the place where it is no UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape" if is_binary else "strict")
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror}); give the path of a text file", str(path)) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"is not UTF-8 at byte {error.start:,}; convert it, or use tokens: bytes", str(path)
        ) from error
