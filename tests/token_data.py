"""Small DataModules of tokens for the tests of the LightningModules that read them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from trainoff.datamodules import DataModuleEntry, InMemoryDataModule

PADDING, BEGIN, END, MASK = 0, 1, 2, 3
FIRST = 4  # the first ordinary token


class TokenSeries(InMemoryDataModule):
    """Windows of a walk on a ring of tokens: the next one is one or two further."""

    facts = DataModuleEntry("series", "token_data:TokenSeries", "a walk on a ring", input_shape=(8,))
    vocabulary = 12
    padding_id, begin_id, end_id, mask_id = PADDING, BEGIN, END, MASK
    bytes_per_token = {"train": 2.0, "val": 2.5, "test": 4.0}

    def __init__(self, samples: int = 48, batch_size: int = 16, microbatches: int = 1, padded: bool = True) -> None:
        super().__init__(batch_size, microbatches)
        self.samples, self.padded, self.output_size = samples, padded, self.vocabulary

    def load_splits(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        draw = torch.Generator().manual_seed(4)
        splits = {}
        for name, samples in {"train": self.samples, "val": 14, "test": 10}.items():
            steps = torch.randint(1, 3, (samples, 9), generator=draw)
            starts = torch.randint(self.vocabulary, (samples, 1), generator=draw)
            tokens = FIRST + (starts + steps.cumsum(1)) % (self.vocabulary - FIRST)
            if self.padded:
                lengths = torch.randint(3, 10, (samples, 1), generator=draw)
                tokens = tokens.masked_fill(torch.arange(9) >= lengths, PADDING)
            splits[name] = (tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
        return splits


class ReversedTokens(InMemoryDataModule):
    """Sequences of 2 to 5 tokens, and the same ones from the last to the first."""

    facts = DataModuleEntry("reversed", "token_data:ReversedTokens", "sequences to reverse", input_shape=(5,))
    vocabulary = 9
    padding_id, begin_id, end_id = PADDING, BEGIN, END
    target_length = 7

    def __init__(self, samples: int = 48, batch_size: int = 16, microbatches: int = 1) -> None:
        super().__init__(batch_size, microbatches)
        self.samples, self.output_size = samples, self.vocabulary

    def load_splits(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        draw = torch.Generator().manual_seed(5)
        return {
            name: self.pairs(samples, draw) for name, samples in {"train": self.samples, "val": 14, "test": 10}.items()
        }

    def pairs(self, samples: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        sources, targets = torch.zeros(samples, 5, dtype=torch.long), torch.zeros(samples, 7, dtype=torch.long)
        for row in range(samples):
            length = int(torch.randint(2, 6, (), generator=draw))
            tokens = torch.randint(FIRST, self.vocabulary, (length,), generator=draw)
            sources[row, :length] = tokens
            targets[row, : length + 2] = torch.cat([torch.tensor([BEGIN]), tokens.flip(0), torch.tensor([END])])
        return sources, targets

    def decode(self, ids: list[int]) -> str:
        return " ".join("abcde"[number - FIRST] for number in ids if number >= FIRST)
