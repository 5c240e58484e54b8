"""What the nets for tokens share: attention, the dense layers after it, and the checks of their arguments."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.nets.layers import Norm, check_widths, dropout_place, norm_layer
from trainoff.modules.nets.layers import activation as activation_named

KeysValues = tuple[Tensor, Tensor]  # each (batch, heads, length, width / heads)


class Attention(nn.Module):
    """Multi-head attention: softmax(QKᵀ / √d) V in each head (Vaswani et al. 2017, section 3.2).

    Parameters: 4 (width² + width).

    Args:
        width: Of inputs and outputs.
        heads: Of which each attends in width / heads dimensions.
        dropout: Share of the attention's weights that is zeroed in training, in [0, 1).

    Raises:
        UserError: For a width that the heads do not divide.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        check_widths("width", [width])
        check_widths("heads", [heads])
        if width % heads:
            raise UserError(f"{heads} heads do not divide a width of {width}", "heads")
        self.heads, self.head_width = heads, width // heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.dropout = dropout_place(dropout)
        self.output = nn.Linear(width, width)

    def keys_values(self, context: Tensor, past: KeysValues | None = None) -> KeysValues:
        """What can be attended to: the keys and values of (batch, length, width), after those of the past."""
        keys, values = self._by_head(self.key(context)), self._by_head(self.value(context))
        if past is None:
            return keys, values
        return torch.cat([past[0], keys], 2), torch.cat([past[1], values], 2)

    def forward(
        self, x: Tensor, keys_values: KeysValues, visible: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """Attend from each place of x.

        Args:
            x: (batch, length, width).
            keys_values: Of the places that are attended to.
            visible: Boolean, (batch, 1, 1 or length, places): true where a place may be attended to.
            causal: Whether the t-th place of x sees the places up to the t-th only.

        Returns:
            (batch, length, width).
        """
        keys, values = keys_values
        share = self.dropout.p if self.training else 0.0  # acts inside the function, on the weights
        attended = F.scaled_dot_product_attention(
            self._by_head(self.query(x)), keys, values, attn_mask=visible, dropout_p=share, is_causal=causal
        )
        return self.output(attended.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def residual_branch(self) -> list[nn.Module]:
        """The layers in their order, for initialisations that treat branches apart."""
        return [self.query, self.key, self.value, self.output]

    def _by_head(self, x: Tensor) -> Tensor:
        """From (batch, length, width) to (batch, heads, length, width / heads); a device may have some heads only."""
        batch, length, _ = x.shape
        return x.view(batch, length, -1, self.head_width).transpose(1, 2)


class FeedForward(nn.Module):
    """Two dense layers at each place: W₂ φ(W₁x + b₁) + b₂ (Vaswani et al. 2017, section 3.3).

    Args:
        width: Of inputs and outputs.
        hidden: Of the layer between.
        activation: φ, by name.
    """

    def __init__(self, width: int, hidden: int, activation: str) -> None:
        super().__init__()
        check_widths("hidden", [hidden])
        self.hidden = nn.Linear(width, hidden)
        self.activation = activation_named(activation)
        self.output = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """From (..., width) to (..., width)."""
        return self.output(self.activation(self.hidden(x)))  # type: ignore[no-any-return]

    def residual_branch(self) -> list[nn.Module]:
        """The layers in their order, for initialisations that treat branches apart."""
        return [self.hidden, self.output]


def token_norm(norm: Norm, width: int) -> nn.Module:
    """A norm of each place by itself, which causal nets need: ``layer``, ``rms`` or None.

    Raises:
        UserError: For a norm that mixes places or samples.
    """
    if norm not in ("layer", "rms", None):
        raise UserError(f"a net for tokens takes the norm layer, rms or none, not {norm!r}", "norm")
    return norm_layer(norm, width, dimensions=1)


def token_length(input_shape: Sequence[int]) -> int:
    """The largest number of tokens in a sample, of the shape (length,).

    Raises:
        UserError: For another shape.
    """
    if len(input_shape) != 1:
        raise UserError(
            f"this net takes token numbers (length,), not samples of shape {tuple(input_shape)}", "input_shape"
        )
    return input_shape[0]


def check_tokens(tokens: Tensor, length: int | None = None) -> None:
    """Refuse what are no token numbers, or more of them than there are positions.

    Raises:
        UserError: For numbers that are not whole, a shape other than (batch, length), or too long samples.
    """
    if tokens.ndim != 2 or tokens.is_floating_point():
        raise UserError(
            f"this net takes whole token numbers (batch, length), not {tokens.dtype} of shape {tuple(tokens.shape)}",
            "inputs",
        )
    if length is not None and tokens.shape[1] > length:
        raise UserError(f"{tokens.shape[1]} tokens are more than the net's {length} positions", "inputs")


def visible_tokens(tokens: Tensor, padding_id: int | None, padding_mask: Tensor | None) -> Tensor:
    """Which tokens are no padding, by their number, by a mask, or by both.

    Args:
        tokens: (batch, length).
        padding_id: The number of padding, if there is one.
        padding_mask: Boolean, (batch, length): true at padding, as in torch's ``key_padding_mask``.

    Returns:
        Boolean, (batch, length).
    """
    visible = torch.ones_like(tokens, dtype=torch.bool) if padding_id is None else tokens != padding_id
    return visible if padding_mask is None else visible & ~padding_mask
