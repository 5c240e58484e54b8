"""Modular arithmetic: the tables on which nets grok."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from trainoff.datamodules.facts.entry import DataModuleEntry
from trainoff.datamodules.facts.generated_sets import MODULAR_ARITHMETIC
from trainoff.datamodules.in_memory import InMemoryDataModule
from trainoff.datamodules.splits import random_words
from trainoff.errors import UserError

_OPERATIONS = ("+", "-", "*")
_ENCODINGS = ("one_hot", "tokens", "sequence")


class ModularArithmetic(InMemoryDataModule):
    """All p² pairs (a, b) with the class a + b mod p (or a − b, a · b); p classes.

    Training takes ``train_fraction`` of the table, validation and test a half of the rest each. How a pair is encoded:

    - ``"one_hot"``: float32 ``(2, p)``, for nets of features such as ``mlp``;
    - ``"tokens"``: int64 ``(2,)``, the numbers a and b, for nets that embed them and give p outputs a sample;
    - ``"sequence"``: int64 ``(3,)``, the tokens a, b and "=", which is number p, for nets of tokens, which give p + 1
      outputs a place: targets are int64 ``(3,)``, ignored (−100) but for the last place, which is the result. There
      are then no classes (``num_classes`` is None) and ``output_size`` is p + 1.

    Args:
        modulus: p, from 2.
        operation: ``"+"``, ``"-"`` or ``"*"``.
        train_fraction: The share of the table that trains.
        encoding: See above.
        batch_size: Samples in a global training batch, or ``"full"``.
        microbatches: Parts of each training batch.
        split_seed: The seed of the split.
        replacement: Draw training samples with replacement.

    Raises:
        UserError: For numbers and names out of range.

    Source: Power et al. 2022, Grokking: generalization beyond overfitting on small algorithmic datasets.
    """

    facts: ClassVar[DataModuleEntry] = MODULAR_ARITHMETIC

    def __init__(
        self,
        modulus: int = 59,
        operation: Literal["+", "-", "*"] = "+",
        train_fraction: float = 0.5,
        encoding: Literal["one_hot", "tokens", "sequence"] = "one_hot",
        batch_size: int | Literal["full"] = "full",
        microbatches: int = 1,
        split_seed: int = 0,
        replacement: bool = False,
    ) -> None:
        super().__init__(batch_size, microbatches, replacement)
        if modulus < 2:
            raise UserError(f"{modulus} is not a number from 2", "modulus")
        if operation not in _OPERATIONS:
            raise UserError(f"{operation!r} is none of {', '.join(_OPERATIONS)}", "operation")
        if encoding not in _ENCODINGS:
            raise UserError(f"{encoding!r} is none of {', '.join(_ENCODINGS)}", "encoding")
        left = modulus**2 - round(train_fraction * modulus**2)
        if not 0 < train_fraction < 1 or left < 2 or left == modulus**2:
            raise UserError(f"{train_fraction} of {modulus**2} pairs leaves a split without any", "train_fraction")
        self.modulus, self.operation, self.encoding = modulus, operation, encoding
        self.train_fraction, self.split_seed = train_fraction, split_seed
        is_sequence = encoding == "sequence"
        self.num_classes = None if is_sequence else modulus
        self.output_size = modulus + is_sequence
        self.input_shape = {"one_hot": (2, modulus), "tokens": (2,), "sequence": (3,)}[encoding]

    def load_splits(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        """The table's pairs in an order that ``split_seed`` gives, cut into the splits."""
        p = self.modulus
        order = np.argsort(random_words(p * p, self.split_seed, "modular_arithmetic"), kind="stable")
        first, second = (torch.from_numpy(numbers) for numbers in np.divmod(order, p))
        results = {"+": first + second, "-": first - second, "*": first * second}[self.operation] % p
        inputs, targets = self._encoded(first, second, results)
        train = round(self.train_fraction * p * p)
        val = (p * p - train) // 2
        cuts = {"train": slice(0, train), "val": slice(train, train + val), "test": slice(train + val, None)}
        return {name: (inputs[part], targets[part]) for name, part in cuts.items()}

    def _encoded(self, first: Tensor, second: Tensor, results: Tensor) -> tuple[Tensor, Tensor]:
        pairs = torch.stack([first, second], 1)
        if self.encoding == "tokens":
            return pairs, results
        if self.encoding == "one_hot":
            return torch.nn.functional.one_hot(pairs, self.modulus).float(), results
        equals, ignored = torch.full_like(results, self.modulus), torch.full_like(results, -100)
        return torch.stack([first, second, equals], 1), torch.stack([ignored, ignored, results], 1)
