"""From one sequence of tokens to another by two LSTMs, with or without attention between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainoff.errors import UserError, closest
from trainoff.modules.nets.layers import check_widths, dropout_place
from trainoff.modules.nets.transformer_layers import check_tokens, token_length, visible_tokens

States = tuple[tuple[Tensor, Tensor], ...]  # of each layer h and c, (batch, width)
ATTENTIONS = ("bahdanau", "luong")


class Memory(NamedTuple):
    """What the decoder needs of the source; each tensor has the batch first.

    Args:
        states: The encoder's last ones, with which the decoder begins.
        outputs: Of the encoder's last layer at each place, (batch, source length, width), the source reversed.
        visible: Boolean, (batch, source length), in the same order: true where the source is no padding.
    """

    states: States
    outputs: Tensor
    visible: Tensor


class LSTMStack(nn.Module):
    """Layers of LSTM (Hochreiter & Schmidhuber 1997, with forget gates), dropout before each and after the last.

    Dropout is not on the way from one place to the next (Zaremba, Sutskever & Vinyals 2014). There are no biases.

    Args:
        input_width: Of the first layer's inputs.
        width: Of each layer.
        depth: Number of layers.
        dropout: In [0, 1).
    """

    def __init__(self, input_width: int, width: int, depth: int, dropout: float) -> None:
        super().__init__()
        widths = [input_width, *[width] * depth]
        self.layers = nn.ModuleList(nn.LSTM(w, width, bias=False, batch_first=True) for w in widths[:-1])
        self.dropouts = nn.ModuleList(dropout_place(dropout) for _ in widths)

    def forward(self, x: Tensor, states: States | None = None) -> tuple[Tensor, States]:
        """From (batch, length, input_width) to (batch, length, width) and the last states."""
        last = []
        for number, layer in enumerate(self.layers):
            start = None if states is None else (states[number][0][None], states[number][1][None])
            x, (h, c) = layer(self.dropouts[number](x), start)
            last.append((h[0], c[0]))
        outputs: Tensor = self.dropouts[-1](x)
        return outputs, tuple(last)


class AdditiveAttention(nn.Module):
    """Weights softmaxₛ vᵀ tanh(Wh + Uxₛ) over the source's places (Bahdanau, Cho & Bengio 2015, appendix A.1.2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.score = nn.Linear(width, 1, bias=False)

    def forward(self, h: Tensor, outputs: Tensor, visible: Tensor) -> Tensor:
        """From h (batch, width) and the encoder's outputs to the mean of those by weight, (batch, width)."""
        scores: Tensor = self.score(torch.tanh(self.query(h)[:, None] + self.key(outputs))).squeeze(-1)
        # The lowest number in place of −∞: a source of nothing but padding has weights too, over zeros.
        scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
        return (scores.softmax(-1)[:, None] @ outputs).squeeze(1)


class Seq2SeqLSTM(nn.Module):
    """Sequence to sequence by LSTMs (Sutskever, Vinyals & Le 2014).

    One reads the source, **reversed**, into its states; with these the other begins to write the target. The
    ``attention`` is

    ============ ==================================================================================================
    None         as in the paper: all that the decoder knows of the source is in the first states
    ``luong``    ŷ = softmax(Wₛ tanh(Wc [context; h])), the context by dot products of h with the encoder's outputs
                 (Luong, Pham & Manning 2015, section 3.1, global, without input feeding)
    ``bahdanau`` the context by an additive score of the state before, and the cell reads it beside the token
                 (Bahdanau, Cho & Bengio 2015, section 3.1, with LSTMs, a reader of one direction and Luong's output)
    ============ ==================================================================================================

    Weights start from U(−0.08, 0.08). Without biases a padding of zeros before the reversed source leaves the states
    at zero, so that padding at a source's end changes nothing.

    Parameters at the default widths, for 160,000 tokens of the source and 80,000 of the target: 384,000,000, of which
    64,000,000 are of the LSTMs, as in section 3.4 of the paper (384 M and 64 M).

    Args:
        input_shape: (length,); longer sequences work too.
        output_size: Number of different tokens of the target.
        width: Of embeddings and layers.
        depth: Number of layers of each LSTM.
        attention: None, ``luong`` or ``bahdanau``.
        dropout: Share of embeddings and of each layer's outputs that is zeroed in training, in [0, 1).
        source_size: Number of different tokens of the source; ``output_size`` where it is not given.
        padding_id: The token number of padding at the end of a source.

    Raises:
        UserError: For inputs that are no token numbers, an unknown attention, or a width or share that makes no sense.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_size: int,
        width: int = 1000,
        depth: int = 4,
        attention: Literal["luong", "bahdanau"] | None = None,
        dropout: float = 0.0,
        source_size: int | None = None,
        padding_id: int | None = None,
    ) -> None:
        super().__init__()
        token_length(input_shape)
        check_widths("width", [width])
        check_widths("depth", [depth])
        if attention not in (None, *ATTENTIONS):
            raise UserError(f"no attention is called '{attention}'{closest(attention, ATTENTIONS)}", "attention")
        source_size = output_size if source_size is None else source_size
        check_widths("source_size", [source_size])
        self.attention, self.padding_id = attention, padding_id
        self.source_tokens = nn.Embedding(source_size, width)
        self.encoder = LSTMStack(width, width, depth, dropout)
        self.target_tokens = nn.Embedding(output_size, width)
        self.decoder = LSTMStack(2 * width if attention == "bahdanau" else width, width, depth, dropout)
        self.additive = AdditiveAttention(width) if attention == "bahdanau" else None
        self.combine = nn.Linear(2 * width, width, bias=False) if attention else None
        self.output = nn.Linear(width, output_size, bias=False)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.08, 0.08)

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
        return self._decode(target_inputs, memory, memory.states)[0]

    def encode(self, source: Tensor, padding_mask: Tensor | None = None) -> Memory:
        """What decoding needs of the source, (batch, source length); arguments as in :meth:`forward`."""
        check_tokens(source)
        visible = visible_tokens(source, self.padding_id, padding_mask).flip(1)
        embedded = self.source_tokens(source.flip(1)) * visible[:, :, None]
        outputs, states = self.encoder(embedded)
        return Memory(states, outputs, visible)

    def decode_step(self, tokens: Tensor, memory: Memory, cache: States | None = None) -> tuple[Tensor, States]:
        """One token more of each target.

        Args:
            tokens: (batch,).
            memory: Of :meth:`encode`.
            cache: What the step before returned; None at the first one. Its tensors have the batch first.

        Returns:
            Logits of the next token, (batch, tokens), and the cache for the next step.
        """
        logits, states = self._decode(tokens[:, None], memory, memory.states if cache is None else cache)
        return logits[:, 0], states

    def _decode(self, tokens: Tensor, memory: Memory, states: States) -> tuple[Tensor, States]:
        embedded = self.target_tokens(tokens)
        if self.additive is not None:
            features, states = self._decode_by_place(embedded, memory, states)
        else:
            features, states = self.decoder(embedded, states)
            if self.combine is not None:
                context = F.scaled_dot_product_attention(
                    features, memory.outputs, memory.outputs, attn_mask=memory.visible[:, None], scale=1.0
                )
                features = torch.tanh(self.combine(torch.cat([context, features], -1)))
        return self.output(features), states

    def _decode_by_place(self, embedded: Tensor, memory: Memory, states: States) -> tuple[Tensor, States]:
        """Bahdanau's cell reads a context that depends on the state before, so that places come one by one."""
        features = []
        for place in embedded.unbind(1):
            context = self.additive(states[-1][0], memory.outputs, memory.visible)  # type: ignore[misc]
            h, states = self.decoder(torch.cat([place, context], -1)[:, None], states)
            features.append(torch.tanh(self.combine(torch.cat([context, h[:, 0]], -1))))  # type: ignore[misc]
        return torch.stack(features, 1), states
