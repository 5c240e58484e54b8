"""BERT: a transformer that reads in both directions, to fill in masked tokens or to name a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainoff.errors import UserError, closest
from trainoff.modules.nets.drop_path import set_drop_path
from trainoff.modules.nets.layers import Norm, check_widths, dropout_place
from trainoff.modules.nets.layers import activation as activation_named
from trainoff.modules.nets.transformer import EncoderLayer
from trainoff.modules.nets.transformer_layers import check_tokens, token_length, token_norm, visible_tokens

HEADS = ("tokens", "classes")


class BertEncoder(nn.Module):
    """Embeddings of tokens, positions and types, then layers of attention and dense layers (Devlin et al. 2019).

    Args:
        vocabulary: Number of different tokens.
        length: The largest number of tokens.
        width: Of the embeddings and layers.
        depth: Number of layers.
        heads: Of the attention.
        activation: By name.
        norm: By name.
        dropout: In [0, 1).
        types: Number of token types.
        padding_id: The token number of padding, or None.
    """

    def __init__(
        self,
        vocabulary: int,
        length: int,
        width: int,
        depth: int,
        heads: int,
        activation: str,
        norm: Norm,
        dropout: float,
        types: int,
        padding_id: int | None,
    ) -> None:
        super().__init__()
        check_widths("width", [width])
        check_widths("depth", [depth])
        check_widths("types", [types])
        self.padding_id = padding_id
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(length, width)
        self.types = nn.Embedding(types, width)
        self.norm = token_norm(norm, width)
        self.dropout = dropout_place(dropout)
        self.layers = nn.ModuleList(
            EncoderLayer(width, heads, 4 * width, activation, norm, dropout) for _ in range(depth)
        )

    def forward(self, tokens: Tensor, token_types: Tensor | None = None, padding_mask: Tensor | None = None) -> Tensor:
        """From token numbers (batch, length) to (batch, length, width); the other arguments are Bert's."""
        check_tokens(tokens, self.positions.num_embeddings)
        if token_types is None:
            token_types = torch.zeros_like(tokens)
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]] + self.types(token_types)
        x = self.dropout(self.norm(x))
        visible = None
        if self.padding_id is not None or padding_mask is not None:
            visible = visible_tokens(tokens, self.padding_id, padding_mask)[:, None, None]
        for layer in self.layers:
            x = layer(x, visible)
        return x  # type: ignore[no-any-return]


class MaskedTokenHead(nn.Module):
    """Logits of the token at each place: the token embeddings once more, after a dense layer and a norm."""

    def __init__(self, width: int, vocabulary: int, activation: str, norm: Norm) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.activation = activation_named(activation)
        self.norm = token_norm(norm, width)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, x: Tensor, embeddings: Tensor) -> Tensor:
        """From (batch, length, width) and (vocabulary, width) to (batch, length, vocabulary)."""
        return F.linear(self.norm(self.activation(self.dense(x))), embeddings, self.bias)


class ClassHead(nn.Module):
    """Logits of classes from the first token: the pooler (dense, tanh), dropout, an affine layer."""

    def __init__(self, width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.pooler = nn.Linear(width, width)
        self.dropout = dropout_place(dropout)
        self.output = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """From (batch, length, width) to (batch, classes)."""
        return self.output(self.dropout(torch.tanh(self.pooler(x[:, 0]))))  # type: ignore[no-any-return]


class Bert(nn.Module):
    """BERT (Devlin et al. 2019), base by default.

    The encoder has the layers of Vaswani et al. 2017, with learned positions and GELU. Weights start from N(0, 0.02²)
    cut at two deviations, biases at 0.

    Parameters at the default widths, for 30,522 tokens and a length of 512: the encoder and the pooler 109,482,240;
    with ``head: tokens``, which has no pooler, 109,514,298. Both are those of the weights that the authors published.

    Args:
        input_shape: (length,): the largest number of tokens.
        output_size: Number of different tokens, or of classes with ``head: classes``.
        head: ``tokens``: logits of the token at each place, for masked language models; ``classes``: logits of the
            whole sequence's class, from its first token.
        vocabulary: Number of different tokens, with ``head: classes``.
        width: Of the embeddings and layers.
        depth: Number of layers.
        heads: Of the attention; they divide the width.
        activation: See :data:`trainoff.modules.nets.layers.ACTIVATIONS`.
        norm: ``layer``, ``rms`` or None.
        dropout: Share of embeddings, of attention weights, of each branch's outputs and of the pooler's that is
            zeroed in training, in [0, 1).
        drop_path: Share of samples for which the last branch is left out in training, in [0, 1); earlier ones less,
            in proportion to their depth.
        types: Number of token types (the first sentence, the second).
        padding_id: The token number of padding, which is then not attended to.

    Raises:
        UserError: For inputs that are no token numbers or more than ``length``, heads that do not divide the width,
            a head without its vocabulary, an unknown head, activation or norm, or a width or share that makes no
            sense.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_size: int,
        head: Literal["tokens", "classes"] = "tokens",
        vocabulary: int | None = None,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        activation: str = "gelu",
        norm: Norm = "layer",
        dropout: float = 0.1,
        drop_path: float = 0.0,
        types: int = 2,
        padding_id: int | None = None,
    ) -> None:
        super().__init__()
        length = token_length(input_shape)
        tokens = _number_of_tokens(head, vocabulary, output_size)
        self.encoder = BertEncoder(tokens, length, width, depth, heads, activation, norm, dropout, types, padding_id)
        self.head: MaskedTokenHead | ClassHead
        if head == "tokens":
            self.head = MaskedTokenHead(width, output_size, activation, norm)
        else:
            self.head = ClassHead(width, output_size, dropout)
        set_drop_path(self, drop_path)
        self._initialise()

    def forward(self, tokens: Tensor, token_types: Tensor | None = None, padding_mask: Tensor | None = None) -> Tensor:
        """Logits of tokens or of classes.

        Args:
            tokens: Token numbers, (batch, length).
            token_types: (batch, length); all 0 where they are not given.
            padding_mask: Boolean, (batch, length): true at padding, beside that of ``padding_id``.

        Returns:
            (batch, length, tokens), or (batch, classes) with ``head: classes``.
        """
        x = self.encoder(tokens, token_types, padding_mask)
        if isinstance(self.head, MaskedTokenHead):
            return self.head(x, self.encoder.tokens.weight)  # type: ignore[no-any-return]
        return self.head(x)  # type: ignore[no-any-return]

    def _initialise(self) -> None:
        for layer in self.modules():
            if isinstance(layer, (nn.Linear, nn.Embedding)):
                nn.init.trunc_normal_(layer.weight, std=0.02, a=-0.04, b=0.04)
            if isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.bias)
            if isinstance(layer, nn.LayerNorm):
                layer.eps = 1e-12  # the authors'; embeddings start so small that torch's 1e-5 would change them


def _number_of_tokens(head: str, vocabulary: int | None, output_size: int) -> int:
    if head not in HEADS:
        raise UserError(f"no head is called '{head}'{closest(head, HEADS)}", "head")
    if head == "tokens":
        if vocabulary not in (None, output_size):
            raise UserError(
                f"with the head 'tokens' the vocabulary is the output size, {output_size}, not {vocabulary}",
                "vocabulary",
            )
        return output_size
    if vocabulary is None:
        raise UserError("with the head 'classes' the number of different tokens is needed", "vocabulary")
    check_widths("vocabulary", [vocabulary])
    return vocabulary
