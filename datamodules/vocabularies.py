"""From text to token numbers and back: bytes, characters, words, and byte pair encoding."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from trainoff.errors import UserError

Tokens = Literal["characters", "bytes", "words", "bpe"]
Ids = npt.NDArray[np.int64]

UNREADABLE = "\ufffd"  # Unicode's replacement character: what an unknown or a masked token is written as
_WORD = re.compile(r"\n|\S+")


class Vocabulary(ABC):
    """The tokens of a corpus; special tokens have the first numbers.

    Args:
        specials: Names of special tokens, of ``padding``, ``begin``, ``end``, ``mask`` and ``unknown``.
        pieces: How many tokens there are beside them.
    """

    def __init__(self, specials: Sequence[str], pieces: int) -> None:
        self.specials: Mapping[str, int] = {name: number for number, name in enumerate(specials)}
        self.offset = len(specials)
        self.size = len(specials) + pieces

    def special(self, name: str) -> int | None:
        """The number of a special token; None where the vocabulary has no such one."""
        return self.specials.get(name)

    @abstractmethod
    def encode(self, text: str) -> Ids:
        """The tokens of a text, of shape ``(tokens,)``; what is in no token becomes ``unknown``."""

    @abstractmethod
    def _write(self, pieces: list[int | None]) -> str:
        """The text of pieces, counted from 0 after the special tokens; None is unreadable."""

    def decode(self, ids: Iterable[Any]) -> str:
        """The text of token numbers; padding, begin and end write nothing."""
        silent = {self.specials.get(name) for name in ("padding", "begin", "end")}
        kept = [number for number in (int(number) for number in ids) if number not in silent]
        return self._write([number - self.offset if number >= self.offset else None for number in kept])


class Bytes(Vocabulary):
    """The 256 bytes of UTF-8: nothing is unknown. Bytes that are no UTF-8 are Python's surrogate escapes."""

    def __init__(self, specials: Sequence[str]) -> None:
        super().__init__(specials, 256)

    def encode(self, text: str) -> Ids:
        """One token a byte."""
        return np.frombuffer(utf8(text), np.uint8).astype(np.int64) + self.offset

    def _write(self, pieces: list[int | None]) -> str:
        mark = UNREADABLE.encode()
        return b"".join(mark if piece is None else bytes([piece]) for piece in pieces).decode("utf-8", "replace")


class Characters(Vocabulary):
    """The characters that occur in the texts, in the order of their code points.

    Args:
        specials: As for all; with ``unknown``.
        texts: What they are counted in.
    """

    def __init__(self, specials: Sequence[str], texts: Iterable[str]) -> None:
        self.characters = sorted(set().union(*map(set, texts)))
        self._points = _code_points("".join(self.characters))
        super().__init__(specials, len(self.characters))

    def encode(self, text: str) -> Ids:
        """One token a character."""
        points = _code_points(text)
        places = np.searchsorted(self._points, points)
        found = self._points[np.minimum(places, len(self._points) - 1)] == points
        return np.where(found, places + self.offset, self.specials["unknown"])

    def _write(self, pieces: list[int | None]) -> str:
        return "".join(UNREADABLE if piece is None else self.characters[piece] for piece in pieces)


class Words(Vocabulary):
    """The most frequent words, which are whatever stands between spaces; a line's end is a word.

    Args:
        specials: As for all; with ``unknown``.
        texts: What they are counted in; of equally frequent words the first in the alphabet.
        size: The most tokens, special ones included.
    """

    def __init__(self, specials: Sequence[str], texts: Iterable[str], size: int) -> None:
        counts = Counter(word for text in texts for word in _WORD.findall(text))
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        self.words = ranked[: max(0, size - len(specials))]
        self._numbers = {word: len(specials) + place for place, word in enumerate(self.words)}
        super().__init__(specials, len(self.words))

    def encode(self, text: str) -> Ids:
        """One token a word; how many spaces there are between words is lost."""
        unknown = self.specials["unknown"]
        return np.array([self._numbers.get(word, unknown) for word in _WORD.findall(text)], np.int64)

    def _write(self, pieces: list[int | None]) -> str:
        joined = " ".join(UNREADABLE if piece is None else self.words[piece] for piece in pieces)
        return joined.replace(" \n ", "\n").replace(" \n", "\n").replace("\n ", "\n")


class BytePairs(Vocabulary):
    """Byte pair encoding of UTF-8, after a split into words: nothing is unknown.

    Args:
        specials: As for all.
        texts: What the pairs are counted in, line by line.
        size: The most tokens, special ones and the 256 bytes included.

    Raises:
        UserError: Where the library ``tokenizers`` is missing, or ``size`` has no room for the bytes.

    Source: Sennrich, Haddow and Birch 2016, Neural machine translation of rare words with subword units; on bytes,
    with the split into words of GPT-2: Radford et al. 2019, section 2.2.
    """

    def __init__(self, specials: Sequence[str], texts: Iterable[str], size: int) -> None:
        try:
            import tokenizers
        except ModuleNotFoundError as error:
            raise UserError("'bpe' needs the package 'tokenizers': pip install 'trainoff[text]'", "tokens") from error
        least = 256 + len(specials)
        if size < least:
            raise UserError(f"{size} tokens have no room for the 256 bytes; it must be at least {least}", "vocabulary")
        splitting = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        self._tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
        self._tokenizer.pre_tokenizer = splitting
        self._tokenizer.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=size - len(specials),
            initial_alphabet=sorted(splitting.alphabet()),  # it comes in a random order
            show_progress=False,
        )
        self._tokenizer.train_from_iterator((line for text in texts for line in _lines(text)), trainer)
        super().__init__(specials, self._tokenizer.get_vocab_size())

    def encode(self, text: str) -> Ids:
        """The tokens of each line, one line after the other."""
        encoded = self._tokenizer.encode_batch_fast(_lines(text))
        ids = [np.asarray(line.ids, np.int64) for line in encoded]
        return np.concatenate([np.zeros(0, np.int64), *ids]) + self.offset

    def _write(self, pieces: list[int | None]) -> str:
        parts, run = [], []
        for piece in [*pieces, None]:
            if piece is not None:
                run.append(piece)
                continue
            parts.append(self._tokenizer.decode(run, skip_special_tokens=False) if run else "")
            run = []
        return UNREADABLE.join(parts)


def build_vocabulary(tokens: Tokens, texts: Sequence[str], size: int, specials: Sequence[str]) -> Vocabulary:
    """The vocabulary of a kind, made from the training texts.

    Args:
        tokens: The kind.
        texts: The texts of the training split.
        size: The most tokens, for ``words`` and ``bpe``.
        specials: Names of the special tokens; ``unknown`` is added where there can be one.

    Raises:
        UserError: For another kind, or what the kinds raise.
    """
    if tokens == "bytes":
        return Bytes(specials)
    if tokens == "bpe":
        return BytePairs(specials, texts, size)
    if tokens == "characters":
        return Characters([*specials, "unknown"], texts)
    if tokens == "words":
        return Words([*specials, "unknown"], texts, size)
    raise UserError(f"{tokens!r} is none of characters, bytes, words and bpe", "tokens")


def utf8(text: str) -> bytes:
    """The bytes of a text, those of a file that is no UTF-8 as they were."""
    return text.encode("utf-8", "surrogateescape")


def _code_points(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _lines(text: str) -> list[str]:
    # at "\n" alone: str.splitlines knows ten more ends of a line
    return re.findall(r"[^\n]*\n|[^\n]+", text)
