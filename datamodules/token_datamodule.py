"""The base of the DataModules for language modelling: texts are cut into windows of tokens."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from trainoff.datamodules.in_memory import InMemoryDataModule
from trainoff.datamodules.vocabularies import Ids, Tokens, Vocabulary, build_vocabulary, utf8
from trainoff.errors import UserError


class TokenDataModule(InMemoryDataModule):
    """A DataModule of windows of consecutive tokens, for causal and for masked language models.

    A subclass sets ``facts`` and implements :meth:`load_texts`. The vocabulary is made from the training text alone.
    Batches are tuples of inputs and targets, int64 ``(batch, length)`` each: the targets are the inputs moved on by
    one token. Windows follow one another without overlap; the tokens after the last whole window, fewer than
    ``length + 1``, are left out of their split.

    After :meth:`setup` there are the attributes ``output_size``, the size of the vocabulary; ``mask_id``, the number
    of a token that no text has; ``unknown_id`` where there can be unknown tokens; ``bytes_per_token``, the mean number
    of UTF-8 bytes that a token of each split stands for, by which a loss in nats a token becomes bits per byte; and
    ``vocabulary``. ``padding_id``, ``begin_id`` and ``end_id`` are None: all windows are full.

    Args:
        tokens: ``characters``, ``bytes``, ``words`` (split at spaces) or ``bpe`` (needs the extra
            ``trainoff[text]``).
        length: Tokens in a window.
        vocabulary: The most tokens that ``words`` and ``bpe`` keep, special ones included.
        batch_size: Windows in a global training batch, over all devices.
        microbatches: Parts in which a batch is delivered.

    Raises:
        UserError: For a kind of tokens that does not exist, a length below 1.
    """

    evaluation_batch: ClassVar[int] = 64  # a window has length × vocabulary outputs
    padding_id: None = None
    begin_id: None = None
    end_id: None = None

    def __init__(
        self,
        tokens: Tokens = "characters",
        length: int = 128,
        vocabulary: int = 1000,
        batch_size: int | Literal["full"] = 32,
        microbatches: int = 1,
    ) -> None:
        super().__init__(batch_size, microbatches)
        if tokens not in ("characters", "bytes", "words", "bpe"):
            raise UserError(f"{tokens!r} is none of characters, bytes, words and bpe", "tokens")
        if length < 1:
            raise UserError(f"{length} tokens are no window; it must be at least 1", "length")
        self.tokens, self.length, self.largest_vocabulary = tokens, length, vocabulary
        self.input_shape = (length,)
        self.mask_id: int | None = None
        self.unknown_id: int | None = None
        self.bytes_per_token: dict[str, float] = {}
        self._vocabulary: Vocabulary | None = None

    @abstractmethod
    def load_texts(self) -> Mapping[str, str]:
        """The texts of ``train``, ``val`` and ``test``."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens, once the data are loaded."""
        self.setup()
        assert self._vocabulary is not None
        return self._vocabulary

    def decode(self, ids: Iterable[Any]) -> str:
        """The text of token numbers, a tensor or a sequence of them."""
        return self.vocabulary.decode(ids)

    def load_splits(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        """The windows of each text."""
        texts = self.load_texts()
        vocabulary = build_vocabulary(self.tokens, [texts["train"]], self.largest_vocabulary, ["mask"])
        encoded = {name: vocabulary.encode(text) for name, text in texts.items()}
        warn_of_unknown(encoded, vocabulary)
        splits = {name: windows(numbers, self.length, name) for name, numbers in encoded.items()}
        self._vocabulary = vocabulary
        self.output_size = vocabulary.size
        self.mask_id, self.unknown_id = vocabulary.special("mask"), vocabulary.special("unknown")
        self.bytes_per_token = {name: len(utf8(texts[name])) / len(numbers) for name, numbers in encoded.items()}
        return splits


def windows(ids: Ids, length: int, split: str) -> tuple[Tensor, Tensor]:
    """Consecutive windows of a text and the same ones moved on by one token; both are views of one tensor.

    Args:
        ids: Token numbers, of shape ``(tokens,)``.
        length: Tokens in a window.
        split: The split's name, for the message.

    Returns:
        Inputs and targets, int64 of shape ``((tokens - 1) // length, length)``.

    Raises:
        UserError: Where there is not one window.
    """
    count = (len(ids) - 1) // length
    if count < 1:
        raise UserError(f"{len(ids)} tokens in {split} make no window of {length} and the next token", "length")
    tokens = torch.from_numpy(ids)
    return tokens[: count * length].view(count, length), tokens[1 : count * length + 1].view(count, length)


def warn_of_unknown(encoded: Mapping[str, Ids], vocabulary: Vocabulary) -> None:
    """Say how many tokens of each split are in no token of the vocabulary."""
    unknown = vocabulary.special("unknown")
    counts = {name: (int((ids == unknown).sum()), len(ids)) for name, ids in encoded.items()}
    found = [f"{count:,} of {total:,} in {name}" for name, (count, total) in counts.items() if count]
    if unknown is not None and found:
        warnings.warn(
            f"tokens that the training vocabulary lacks are read as 'unknown': {', '.join(found)}; "
            "tokens: bytes or bpe knows all",
            stacklevel=2,
        )
