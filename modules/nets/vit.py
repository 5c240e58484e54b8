"""The vision transformer, ViT-Tiny by default."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.nets.drop_path import DropPath, set_drop_path
from trainoff.modules.nets.layers import Norm, check_widths, dropout_place, image_sizes, norm_layer
from trainoff.modules.nets.layers import activation as activation_named

NORMS_OF_TOKENS = (None, "layer", "rms")


class SelfAttention(nn.Module):
    """Each token takes from all: softmax(q kᵀ / √d) v in each head (Vaswani et al. 2017, section 3.2).

    Inputs and outputs: (batch, tokens, width).

    Args:
        width: Of a token.
        heads: Number of heads, of width / heads each.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The heads' results, mixed by a dense layer."""
        batch, tokens, width = x.shape
        parts = self.queries_keys_values(x).view(batch, tokens, 3, self.heads, width // self.heads)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4).unbind(0)  # each (batch, heads, tokens, width / heads)
        mixed = F.scaled_dot_product_attention(queries, keys, values)
        return self.output(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class AttentionBlock(nn.Module):
    """x ← x + attention(norm(x)) (Dosovitskiy et al. 2021, eq. 2). Inputs and outputs: (batch, tokens, width)."""

    def __init__(self, width: int, heads: int, norm: Norm, dropout: float) -> None:
        super().__init__()
        self.norm = norm_layer(norm, width, dimensions=1)
        self.attention = SelfAttention(width, heads)
        self.dropout = dropout_place(dropout)
        self.drop_path = DropPath()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The tokens plus what each takes from the others."""
        return x + self.drop_path(self.dropout(self.attention(self.norm(x))))  # type: ignore[no-any-return]

    def residual_branch(self) -> list[nn.Module]:
        """The layers of the branch that have weights, in their order."""
        return [self.norm, self.attention.queries_keys_values, self.attention.output]


class DenseBlock(nn.Module):
    """x ← x + W₂ φ(W₁ norm(x)) (Dosovitskiy et al. 2021, eq. 3). Inputs and outputs: (batch, tokens, width)."""

    def __init__(self, width: int, hidden: int, activation: str, norm: Norm, dropout: float) -> None:
        super().__init__()
        self.norm = norm_layer(norm, width, dimensions=1)
        self.dense1 = nn.Linear(width, hidden)
        self.activation = activation_named(activation)
        self.dropout1 = dropout_place(dropout)
        self.dense2 = nn.Linear(hidden, width)
        self.dropout2 = dropout_place(dropout)
        self.drop_path = DropPath()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The tokens plus what two dense layers make of each."""
        residual = self.dropout1(self.activation(self.dense1(self.norm(x))))
        return x + self.drop_path(self.dropout2(self.dense2(residual)))  # type: ignore[no-any-return]

    def residual_branch(self) -> list[nn.Module]:
        """The layers of the branch that have weights, in their order."""
        return [self.norm, self.dense1, self.dense2]


class VisionTransformer(nn.Module):
    """The vision transformer (Dosovitskiy et al. 2021, section 3.1), of the size ViT-Tiny (Touvron et al. 2021).

    The image is cut into squares, each of which an affine map makes a token; a class token comes first; trainable
    positions are added; ``depth`` pairs of attention and dense layers follow, each with its norm first; then a norm
    and a dense layer on the class token. Attention is :func:`torch.nn.functional.scaled_dot_product_attention`. As in
    the authors' code dense weights start by Glorot & Bengio 2010 (uniform), positions normal with deviation 0.02,
    patches normal with variance 1 / fan in, class token and biases at zero.

    Parameters for (3, 224, 224) and 1000 classes: 5,717,416.

    Args:
        input_shape: (channels, height, width), both sides multiples of ``patch``.
        output_size: Number of outputs.
        patch: Side of a square, in pixels; 4 suits images of 28 or 32 pixels.
        width: Of a token, a multiple of ``heads``.
        depth: Pairs of attention and dense layers.
        heads: Of each attention.
        hidden: Width of the dense layers between, 4 · ``width`` where it is None.
        activation: See :data:`trainoff.modules.nets.layers.ACTIVATIONS`.
        norm: ``layer``, ``rms`` or None: over the width of each token.
        dropout: Share that is zeroed in training, in [0, 1): of the tokens with their positions, and of what each
            dense layer but that of queries, keys and values gives (the paper's appendix B.1).
        drop_path: Share of samples for which the last branch is left out in training, in [0, 1); earlier ones less,
            in proportion to their depth.

    Raises:
        UserError: For inputs that are no images, sides that the patch does not divide, an unknown activation, another
            norm, or a number that makes no sense.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_size: int,
        patch: int = 16,
        width: int = 192,
        depth: int = 12,
        heads: int = 3,
        hidden: int | None = None,
        activation: str = "gelu",
        norm: Norm = "layer",
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        hidden = 4 * width if hidden is None else hidden
        channels, rows, columns = _patches(input_shape, patch)
        for name, number in (("width", width), ("depth", depth), ("heads", heads), ("hidden", hidden)):
            check_widths(name, [number])
        if width % heads:
            raise UserError(f"the width is a multiple of the heads, and {width} is none of {heads}", "heads")
        if norm not in NORMS_OF_TOKENS:
            raise UserError(f"tokens are normalised by layer or rms, or not at all (null), not by {norm!r}", "norm")
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(width))
        self.positions = nn.Embedding(1 + rows * columns, width)
        self.dropout = dropout_place(dropout)
        self.blocks = nn.Sequential()
        for _ in range(depth):
            self.blocks.append(AttentionBlock(width, heads, norm, dropout))
            self.blocks.append(DenseBlock(width, hidden, activation, norm, dropout))
        set_drop_path(self, drop_path)
        self.norm = norm_layer(norm, width, dimensions=1)
        self.output = nn.Linear(width, output_size)
        nn.init.normal_(self.positions.weight, std=0.02)
        nn.init.kaiming_normal_(self.patches.weight, nonlinearity="linear")
        nn.init.zeros_(self.patches.bias)  # type: ignore[arg-type]
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, height, width) to (batch, output_size)."""
        tokens = self.patches(x).flatten(2).transpose(1, 2)  # (batch, patches, width)
        first = self.class_token.expand(x.shape[0], 1, -1)  # torch.export fixes a batch's len()
        tokens = self.dropout(torch.cat([first, tokens], 1) + self.positions.weight)
        return self.output(self.norm(self.blocks(tokens)[:, 0]))  # type: ignore[no-any-return]


def _patches(input_shape: Sequence[int], patch: int) -> tuple[int, int, int]:
    """Channels, and patches down and across."""
    channels, height, width = image_sizes(input_shape)
    check_widths("patch", [patch])
    if height % patch or width % patch:
        raise UserError(f"a patch of {patch} pixels does not divide images of {height} x {width}", "patch")
    return channels, height // patch, width // patch
