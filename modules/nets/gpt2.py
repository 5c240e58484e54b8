"""GPT-2: a causal transformer that predicts each token from those before it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainoff.modules.nets.drop_path import DropPath, set_drop_path
from trainoff.modules.nets.layers import Norm, check_widths, dropout_place
from trainoff.modules.nets.transformer_layers import (
    Attention,
    FeedForward,
    KeysValues,
    check_tokens,
    token_length,
    token_norm,
)


class GPT2Block(nn.Module):
    """Attention to the past, then dense layers; each after a norm and around a shortcut.

    x ← x + attention(norm(x)); x ← x + dense(norm(x)).
    """

    def __init__(self, width: int, heads: int, activation: str, norm: Norm, dropout: float) -> None:
        super().__init__()
        self.norm1 = token_norm(norm, width)
        self.attention = Attention(width, heads, dropout)
        self.dropout1 = dropout_place(dropout)
        self.drop_path1 = DropPath()
        self.norm2 = token_norm(norm, width)
        self.dense = FeedForward(width, 4 * width, activation)
        self.dropout2 = dropout_place(dropout)
        self.drop_path2 = DropPath()

    def forward(self, x: Tensor, past: KeysValues | None = None) -> tuple[Tensor, KeysValues]:
        """From (batch, length, width) to the same, and the keys and values for the tokens to come.

        With a past, x is one token, which sees all of it.
        """
        normed = self.norm1(x)
        keys_values = self.attention.keys_values(normed, past)
        attended = self.attention(normed, keys_values, causal=past is None)
        x = x + self.drop_path1(self.dropout1(attended))
        x = x + self.drop_path2(self.dropout2(self.dense(self.norm2(x))))
        return x, keys_values


class GPT2(nn.Module):
    """GPT-2 (Radford et al. 2019, section 2.3; the architecture of Radford et al. 2018 with norms first).

    Embeddings of tokens and positions, ``depth`` blocks of causal attention and dense layers four times as wide, a
    last norm, and the token embeddings once more as output weights.

    Weights start from N(0, 0.02²), those at the end of the 2 · depth residual branches divided by √(2 · depth);
    biases at 0.

    Parameters at the default widths, for 50,257 tokens and a length of 1024: 124,439,808, as in the weights that the
    authors published.

    Args:
        input_shape: (length,): the largest number of tokens.
        output_size: Number of different tokens.
        width: Of the embeddings and blocks.
        depth: Number of blocks.
        heads: Of the attention; they divide the width.
        activation: See :data:`trainoff.modules.nets.layers.ACTIVATIONS`.
        norm: ``layer``, ``rms`` or None.
        dropout: Share of embeddings, of attention weights and of each branch's outputs that is zeroed in training,
            in [0, 1).
        drop_path: Share of samples for which the last branch is left out in training, in [0, 1); earlier ones less,
            in proportion to their depth.

    Raises:
        UserError: For inputs that are no token numbers or more than ``length``, heads that do not divide the width,
            an unknown activation or norm, or a width or share that makes no sense.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_size: int,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        activation: str = "gelu_tanh",
        norm: Norm = "layer",
        dropout: float = 0.1,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.length = token_length(input_shape)
        check_widths("width", [width])
        check_widths("depth", [depth])
        self.tokens = nn.Embedding(output_size, width)
        self.positions = nn.Embedding(self.length, width)
        self.dropout = dropout_place(dropout)
        self.blocks = nn.ModuleList(GPT2Block(width, heads, activation, norm, dropout) for _ in range(depth))
        self.norm = token_norm(norm, width)
        set_drop_path(self, drop_path)
        self._initialise()

    def forward(self, tokens: Tensor) -> Tensor:
        """From token numbers (batch, length) to logits of the next token at each place, (batch, length, tokens)."""
        check_tokens(tokens, self.length)
        x = self._embed(tokens, start=0)
        for block in self.blocks:
            x, _ = block(x)
        return self._logits(x)

    def decode_step(
        self, tokens: Tensor, cache: tuple[KeysValues, ...] | None = None
    ) -> tuple[Tensor, tuple[KeysValues, ...]]:
        """One token more of each sample.

        Args:
            tokens: (batch,).
            cache: What the step before returned; None at the first one. Its tensors have the batch first.

        Returns:
            Logits of the next token, (batch, tokens), and the cache for the next step.
        """
        start = 0 if cache is None else cache[0][0].shape[2]
        check_tokens(tokens[:, None], self.length - start)
        x = self._embed(tokens[:, None], start)
        new_cache = []
        for number, block in enumerate(self.blocks):
            x, keys_values = block(x, None if cache is None else cache[number])
            new_cache.append(keys_values)
        return self._logits(x)[:, 0], tuple(new_cache)

    def _embed(self, tokens: Tensor, start: int) -> Tensor:
        positions = self.positions.weight[start : start + tokens.shape[1]]
        return self.dropout(self.tokens(tokens) + positions)  # type: ignore[no-any-return]

    def _logits(self, x: Tensor) -> Tensor:
        return F.linear(self.norm(x), self.tokens.weight)

    def _initialise(self) -> None:
        for layer in self.modules():
            if isinstance(layer, (nn.Linear, nn.Embedding)):
                nn.init.normal_(layer.weight, std=0.02)
            if isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.bias)
        with torch.no_grad():
            for branch in self.modules():
                if isinstance(branch, (Attention, FeedForward)):
                    branch.output.weight.div_((2 * len(self.blocks)) ** 0.5)
