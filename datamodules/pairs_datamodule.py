"""The base of the DataModules for sequence to sequence: pairs of texts become padded token numbers."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from trainoff.datamodules.in_memory import InMemoryDataModule
from trainoff.datamodules.splits import RawData, SplitPlan
from trainoff.datamodules.token_datamodule import warn_of_unknown
from trainoff.datamodules.vocabularies import Ids, Tokens, Vocabulary, build_vocabulary, utf8
from trainoff.errors import UserError

Pair = tuple[str, str]  # source, target

_SPECIALS = ("padding", "begin", "end")  # numbers 0, 1, 2


class PairsDataModule(InMemoryDataModule):
    """A DataModule of pairs of texts, source and target, with one vocabulary for both.

    A subclass sets ``facts`` and implements :meth:`load_pairs`. The vocabulary is made from the training pairs alone.
    Batches are tuples of int64: sources ``(batch, S)``, the source's tokens and padding; and targets ``(batch, T)``,
    ``begin``, the target's tokens, ``end`` and padding. S and T are those of the longest pair of all splits.

    After :meth:`setup` there are the attributes ``input_shape``, which is ``(S,)``; ``target_length``, T;
    ``output_size``, the size of the vocabulary; ``padding_id``, ``begin_id``, ``end_id``, and ``unknown_id`` where
    there can be unknown tokens; ``bytes_per_token``, the mean number of UTF-8 bytes that a target's token stands for;
    and ``vocabulary``. ``mask_id`` is None.

    Args:
        tokens: ``characters``, ``bytes``, ``words`` (split at spaces) or ``bpe`` (needs the extra
            ``trainoff[text]``).
        length: The most tokens of a source and of a target, ``begin`` and ``end`` not counted; longer pairs are left
            out, which is said.
        vocabulary: The most tokens that ``words`` and ``bpe`` keep, special ones included.
        batch_size: Pairs in a global training batch, over all devices.
        microbatches: Parts in which a batch is delivered.

    Raises:
        UserError: For a kind of tokens that does not exist, a length below 1.
    """

    evaluation_batch: ClassVar[int] = 256
    padding_id: int = 0
    begin_id: int = 1
    end_id: int = 2
    mask_id: None = None

    def __init__(
        self,
        tokens: Tokens = "characters",
        length: int = 64,
        vocabulary: int = 1000,
        batch_size: int | Literal["full"] = 64,
        microbatches: int = 1,
    ) -> None:
        super().__init__(batch_size, microbatches)
        if tokens not in ("characters", "bytes", "words", "bpe"):
            raise UserError(f"{tokens!r} is none of characters, bytes, words and bpe", "tokens")
        if length < 1:
            raise UserError(f"{length} tokens are no pair's length; it must be at least 1", "length")
        self.tokens, self.length, self.largest_vocabulary = tokens, length, vocabulary
        self.target_length = 0
        self.unknown_id: int | None = None
        self.bytes_per_token: dict[str, float] = {}
        self._vocabulary: Vocabulary | None = None

    @abstractmethod
    def load_pairs(self) -> Mapping[str, Sequence[Pair]]:
        """The pairs of ``train``, ``val`` and ``test``."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens, once the data are loaded."""
        self.setup()
        assert self._vocabulary is not None
        return self._vocabulary

    def decode(self, ids: Iterable[Any]) -> str:
        """The text of token numbers, a tensor or a sequence of them; special tokens write nothing."""
        return self.vocabulary.decode(ids)

    def load_splits(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        """The padded pairs of each split."""
        pairs = self.load_pairs()
        sides = [[pair[side] for pair in pairs["train"]] for side in (0, 1)]
        vocabulary = build_vocabulary(self.tokens, [*sides[0], *sides[1]], self.largest_vocabulary, _SPECIALS)
        kept = {name: self._encode(name, rows, vocabulary) for name, rows in pairs.items()}
        longest = [max(len(row[side]) for rows in kept.values() for row in rows) for side in (0, 1)]
        splits = {
            name: (_pad([row[0] for row in rows], longest[0]), _pad([row[1] for row in rows], longest[1]))
            for name, rows in kept.items()
        }
        warn_of_unknown(
            {name: np.concatenate([*map(np.concatenate, rows)]) for name, rows in kept.items()}, vocabulary
        )
        self._vocabulary = vocabulary
        self.output_size, self.unknown_id = vocabulary.size, vocabulary.special("unknown")
        self.input_shape, self.target_length = (longest[0],), longest[1]
        self.bytes_per_token = {
            name: sum(len(utf8(vocabulary.decode(row[1]))) for row in rows) / sum(len(row[1]) - 1 for row in rows)
            for name, rows in kept.items()
        }
        return splits

    def _encode(self, split: str, pairs: Sequence[Pair], vocabulary: Vocabulary) -> list[tuple[Ids, Ids]]:
        """The pairs that are not too long; the target has its begin and end."""
        encoded = [(vocabulary.encode(source), vocabulary.encode(target)) for source, target in pairs]
        kept = [pair for pair in encoded if max(map(len, pair)) <= self.length]
        if len(kept) < len(pairs):
            warnings.warn(
                f"{len(pairs) - len(kept):,} of {len(pairs):,} pairs in {split} have more than {self.length} tokens "
                "and are left out",
                stacklevel=2,
            )
        if not kept:
            raise UserError(f"no pair of {split} has at most {self.length} tokens; raise it", "length")
        return [(source, np.concatenate([[self.begin_id], target, [self.end_id]])) for source, target in kept]


def split_pairs(
    pairs: Sequence[Pair], split_seed: int, val_fraction: float, test_fraction: float
) -> dict[str, list[Pair]]:
    """Cut pairs by a seed alone, as :class:`SplitPlan` does."""
    numbers = np.arange(len(pairs))
    splits = SplitPlan(split_seed, val_fraction, test_fraction, 0.0, None).cut(RawData(numbers, numbers), None)
    return {name: [pairs[place] for place in split.inputs] for name, split in splits._asdict().items()}


def _pad(rows: Sequence[Ids], length: int) -> Tensor:
    padded = torch.zeros(len(rows), length, dtype=torch.int64)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = torch.from_numpy(row)
    return padded
