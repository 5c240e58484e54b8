"""The transformer: an encoder and a decoder of attention, from one sequence of tokens to another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.nets.drop_path import DropPath, set_drop_path
from trainoff.modules.nets.layers import Norm, check_widths, dropout_place
from trainoff.modules.nets.transformer_layers import (
    Attention,
    FeedForward,
    KeysValues,
    check_tokens,
    token_length,
    token_norm,
    visible_tokens,
)


class Memory(NamedTuple):
    """What the decoder needs of the source; each tensor has the batch first.

    Args:
        keys_values: Of the encoder's outputs, for each layer of the decoder.
        visible: Boolean, (batch, source length): true where the source is no padding.
    """

    keys_values: tuple[KeysValues, ...]
    visible: Tensor


def sinusoidal_positions(start: int, length: int, width: int, device: torch.device | None = None) -> Tensor:
    """Sine and cosine in turn: sin(t / 10000^(2i / width)) at 2i, the cosine of the same at 2i + 1.

    Vaswani et al. 2017, section 3.5. Any position has one, so that no sequence is too long.

    Args:
        start: The first t, from 0.
        length: Number of positions.
        width: Even.
        device: Of the result.

    Returns:
        (length, width), float32.
    """
    places = torch.arange(start, start + length, dtype=torch.float32, device=device)
    rates = torch.exp(torch.arange(0, width, 2, dtype=torch.float32, device=device) * (-math.log(10_000) / width))
    angles = places[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)


class EncoderLayer(nn.Module):
    """Attention among all places, then dense layers; a norm after each shortcut.

    x ← norm(x + attention(x)); x ← norm(x + dense(x)).
    """

    def __init__(self, width: int, heads: int, hidden: int, activation: str, norm: Norm, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.dropout1 = dropout_place(dropout)
        self.drop_path1 = DropPath()
        self.norm1 = token_norm(norm, width)
        self.dense = FeedForward(width, hidden, activation)
        self.dropout2 = dropout_place(dropout)
        self.drop_path2 = DropPath()
        self.norm2 = token_norm(norm, width)

    def forward(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        """From (batch, length, width) to the same; ``visible`` is Attention's."""
        attended = self.attention(x, self.attention.keys_values(x), visible)
        x = self.norm1(x + self.drop_path1(self.dropout1(attended)))
        return self.norm2(x + self.drop_path2(self.dropout2(self.dense(x))))  # type: ignore[no-any-return]


class DecoderLayer(nn.Module):
    """Attention to the past, attention to the source, dense layers; a norm after each shortcut."""

    def __init__(self, width: int, heads: int, hidden: int, activation: str, norm: Norm, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.dropout1 = dropout_place(dropout)
        self.drop_path1 = DropPath()
        self.norm1 = token_norm(norm, width)
        self.source_attention = Attention(width, heads, dropout)
        self.dropout2 = dropout_place(dropout)
        self.drop_path2 = DropPath()
        self.norm2 = token_norm(norm, width)
        self.dense = FeedForward(width, hidden, activation)
        self.dropout3 = dropout_place(dropout)
        self.drop_path3 = DropPath()
        self.norm3 = token_norm(norm, width)

    def forward(
        self, x: Tensor, source: KeysValues, visible: Tensor, past: KeysValues | None = None
    ) -> tuple[Tensor, KeysValues]:
        """From (batch, length, width) to the same, and the keys and values for the tokens to come.

        With a past, x is one token, which sees all of it.
        """
        keys_values = self.attention.keys_values(x, past)
        attended = self.attention(x, keys_values, causal=past is None)
        x = self.norm1(x + self.drop_path1(self.dropout1(attended)))
        attended = self.source_attention(x, source, visible)
        x = self.norm2(x + self.drop_path2(self.dropout2(attended)))
        x = self.norm3(x + self.drop_path3(self.dropout3(self.dense(x))))
        return x, keys_values


class Transformer(nn.Module):
    """The transformer (Vaswani et al. 2017, section 3).

    Source, target and output share one matrix of embeddings (section 3.4), multiplied by √width where it embeds.
    Embeddings start from N(0, 1 / width), other matrices by Glorot & Bengio's uniform draw, as the authors' code does.

    Parameters at the default widths: 44,138,496 and 512 for each token; 63,082,496 for the 37,000 of the paper, which
    says 65 M.

    Args:
        input_shape: (length,); longer sequences work too.
        output_size: Number of different tokens, of source and target together.
        width: Of the embeddings and layers, even.
        depth: Number of layers of the encoder, and of the decoder.
        heads: Of each attention; they divide the width.
        hidden: Width between the two dense layers; four times ``width`` where it is not given.
        activation: See :data:`trainoff.modules.nets.layers.ACTIVATIONS`.
        norm: ``layer``, ``rms`` or None.
        dropout: Share of embeddings, of attention weights and of each branch's outputs that is zeroed in training,
            in [0, 1).
        drop_path: Share of samples for which the last branch is left out in training, in [0, 1); earlier ones less,
            in proportion to their depth.
        padding_id: The token number of padding in the source, which is then not attended to.

    Raises:
        UserError: For inputs that are no token numbers, heads that do not divide the width, an unknown activation or
            norm, or a width or share that makes no sense.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_size: int,
        width: int = 512,
        depth: int = 6,
        heads: int = 8,
        hidden: int | None = None,
        activation: str = "relu",
        norm: Norm = "layer",
        dropout: float = 0.1,
        drop_path: float = 0.0,
        padding_id: int | None = None,
    ) -> None:
        super().__init__()
        token_length(input_shape)
        check_widths("width", [width])
        check_widths("depth", [depth])
        if width % 2:
            raise UserError(f"the width is even, for sines and cosines, not {width}", "width")
        self.width, self.padding_id = width, padding_id
        sizes = (width, heads, 4 * width if hidden is None else hidden, activation, norm, dropout)
        self.tokens = nn.Embedding(output_size, width)
        self.dropout = dropout_place(dropout)
        self.encoder = nn.ModuleList(EncoderLayer(*sizes) for _ in range(depth))
        self.decoder = nn.ModuleList(DecoderLayer(*sizes) for _ in range(depth))
        set_drop_path(self.encoder, drop_path)
        set_drop_path(self.decoder, drop_path)
        nn.init.normal_(self.tokens.weight, std=width**-0.5)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, source: Tensor, target_inputs: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """From tokens of the source and of the target so far to logits of the target's next token at each place.

        Args:
            source: (batch, source length).
            target_inputs: (batch, target length); the t-th output sees the first t of them.
            padding_mask: Boolean, (batch, source length): true at padding, beside that of ``padding_id``.

        Returns:
            (batch, target length, tokens).
        """
        memory = self.encode(source, padding_mask)
        check_tokens(target_inputs)
        visible = memory.visible[:, None, None]
        x = self._embed(target_inputs, start=0)
        for layer, keys_values in zip(self.decoder, memory.keys_values, strict=True):
            x, _ = layer(x, keys_values, visible)
        return F.linear(x, self.tokens.weight)

    def encode(self, source: Tensor, padding_mask: Tensor | None = None) -> Memory:
        """What decoding needs of the source, (batch, source length); arguments as in :meth:`forward`."""
        check_tokens(source)
        visible = visible_tokens(source, self.padding_id, padding_mask)
        x = self._embed(source, start=0)
        for layer in self.encoder:
            x = layer(x, visible[:, None, None])
        return Memory(tuple(layer.source_attention.keys_values(x) for layer in self.decoder), visible)  # type: ignore

    def decode_step(
        self, tokens: Tensor, memory: Memory, cache: tuple[KeysValues, ...] | None = None
    ) -> tuple[Tensor, tuple[KeysValues, ...]]:
        """One token more of each target.

        Args:
            tokens: (batch,).
            memory: Of :meth:`encode`.
            cache: What the step before returned; None at the first one. Its tensors have the batch first.

        Returns:
            Logits of the next token, (batch, tokens), and the cache for the next step.
        """
        x = self._embed(tokens[:, None], start=0 if cache is None else cache[0][0].shape[2])
        visible = memory.visible[:, None, None]
        new_cache = []
        for number, layer in enumerate(self.decoder):
            past = None if cache is None else cache[number]
            x, keys_values = layer(x, memory.keys_values[number], visible, past)
            new_cache.append(keys_values)
        return F.linear(x[:, 0], self.tokens.weight), tuple(new_cache)

    def _embed(self, tokens: Tensor, start: int) -> Tensor:
        embedded = self.tokens(tokens) * self.width**0.5
        positions = sinusoidal_positions(start, tokens.shape[1], self.width, tokens.device).to(embedded.dtype)
        return self.dropout(embedded + positions)  # type: ignore[no-any-return]
