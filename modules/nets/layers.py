"""Activations and normalisations by name, and the checks that the nets share."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn

from trainoff.errors import UserError, closest
from trainoff.modules.nets.ghost_batch_norm import GhostBatchNorm1d, GhostBatchNorm2d
from trainoff.modules.nets.norms import NORMS


class TanhGELU(nn.GELU):
    """GELU by its approximation with tanh (Hendrycks & Gimpel 2016, section 2), as GPT-2 computes it."""

    def __init__(self) -> None:
        super().__init__(approximate="tanh")


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "gelu_tanh": TanhGELU,
    "hardswish": nn.Hardswish,
    "identity": nn.Identity,
    "leaky_relu": nn.LeakyReLU,
    "mish": nn.Mish,
    "relu": nn.ReLU,
    "selu": nn.SELU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}

# Wu & He 2018 use 32 groups in nets of 64 to 2048 channels; the nets here begin at 16 channels, of which 32 groups
# would make an instance norm.
_GROUPS = 8


Norm = str | Mapping[str, Any] | None  # a name, a name with its arguments, or none


class ChannelRMSNorm(nn.RMSNorm):
    """Root-mean-square norm over the channels at each position (Zhang & Sennrich 2019).

    Inputs and outputs: (batch, channels, height, width).
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise over dimension 1, where torch's RMSNorm takes the last."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def activation(name: str) -> nn.Module:
    """An activation by name, with torch's defaults.

    Raises:
        UserError: For a name that is not in :data:`ACTIVATIONS`.
    """
    if name not in ACTIVATIONS:
        raise UserError(f"no activation is called '{name}'{closest(name, ACTIVATIONS)}", "activation")
    return ACTIVATIONS[name]()


def norm_layer(norm: Norm, features: int, dimensions: Literal[1, 2]) -> nn.Module:
    """A normalisation by name, with a trainable scale for each feature (and a shift, except for rms).

    =============== ============================================  ================================================
    name            1 dimension: (batch, features)                2 dimensions: (batch, features, height, width)
    =============== ============================================  ================================================
    None            nothing                                       nothing
    ``batch``       each feature over the batch                   each feature over batch, height and width
    ``ghost_batch`` each feature over parts of the batch          each feature over parts of it, height and width
    ``layer``       each sample over its features                 each sample over features, height and width
    ``group``       each sample over groups of features           each sample over groups, height and width
    ``instance``    refused: one number has no variance           each sample and feature over height and width
    ``rms``         each sample over its features, no mean taken  each position over its features, no mean taken
    =============== ============================================  ================================================

    The number of groups is 8, or the largest divisor of ``features`` that divides 8. The parts of ``ghost_batch`` have
    32 samples or more; ``{"name": "ghost_batch", "size": 64}`` says another number.

    Args:
        norm: One of ``trainoff list norms``, a mapping of a name and its arguments, or None.
        features: Number of features or channels.
        dimensions: 1 for vectors, 2 for images.

    Raises:
        UserError: For an unknown name or argument, and for ``instance`` on vectors.
    """
    if norm is None:
        return nn.Identity()
    arguments = {} if isinstance(norm, str) else {key: value for key, value in norm.items() if key != "name"}
    name = norm if isinstance(norm, str) else str(norm.get("name"))
    if name not in NORMS:
        raise UserError(f"no norm is called '{name}'{closest(name, NORMS.names())}", "norm")
    if name == "ghost_batch":
        return _ghost_batch_norm(features, dimensions, **arguments)
    if arguments:
        raise UserError(f"'{name}' takes no arguments, such as {', '.join(arguments)}", "norm")
    if name == "instance" and dimensions == 1:
        raise UserError("instance norm needs images: a feature of a vector is one number; take layer or rms", "norm")
    if name == "batch":
        return nn.BatchNorm1d(features) if dimensions == 1 else nn.BatchNorm2d(features)
    if name == "group":
        return nn.GroupNorm(math.gcd(_GROUPS, features), features)
    if name == "instance":
        return nn.InstanceNorm2d(features, affine=True)
    if name == "layer":
        # One group of all channels: the statistics of LayerNorm over (channels, height, width), with a scale for each
        # channel, so that the net stays independent of the image's size.
        return nn.LayerNorm(features) if dimensions == 1 else nn.GroupNorm(1, features)
    return nn.RMSNorm(features) if dimensions == 1 else ChannelRMSNorm(features)


def _ghost_batch_norm(features: int, dimensions: Literal[1, 2], size: int = 32, **others: Any) -> nn.Module:
    if others:
        raise UserError(f"'ghost_batch' takes no '{next(iter(others))}'; it takes size", "norm")
    return GhostBatchNorm1d(features, size) if dimensions == 1 else GhostBatchNorm2d(features, size)


def dropout_place(p: float) -> nn.Dropout:
    """A dropout layer, there also at ``p = 0`` so that the regularizer ``dropout`` can set its share later.

    Raises:
        UserError: For a share outside [0, 1).
    """
    if not 0 <= p < 1:
        raise UserError(f"a dropout probability lies in [0, 1), not {p}", "dropout")
    return nn.Dropout(p)


def convolution(
    inputs: int,
    outputs: int,
    kernel_size: int,
    nonlinearity: str,
    norm: Norm,
    stride: int = 1,
    padding: int = 0,
) -> nn.Sequential:
    """A convolution, its norm and its activation; the convolution has biases where no norm takes them out again.

    Args:
        inputs: Channels.
        outputs: Channels.
        kernel_size: Of both sides.
        nonlinearity: The activation, by name.
        norm: By name.
        stride: Of both sides.
        padding: Zeros at each of the four borders.
    """
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size, stride, padding, bias=norm is None),
        norm_layer(norm, outputs, dimensions=2),
        activation(nonlinearity),
    )


def image_sizes(input_shape: Sequence[int], smallest: int = 1, instead: str = "") -> tuple[int, int, int]:
    """Channels, height and width of an image's shape.

    Args:
        input_shape: Of one sample.
        smallest: Height and width that the net needs.
        instead: What takes smaller ones, for the message.

    Raises:
        UserError: For a shape that is not an image's, or an image that is too small.
    """
    if len(input_shape) != 3:
        raise UserError(
            f"this net takes images (channels, height, width), not samples of shape {tuple(input_shape)}; "
            "mlp takes any shape",
            "input_shape",
        )
    channels, height, width = input_shape
    if min(height, width) < smallest:
        raise UserError(
            f"this net takes images from {smallest} x {smallest}, not {height} x {width}{instead and f'; {instead}'}",
            "input_shape",
        )
    return channels, height, width


def check_one_of(argument: str, value: str, choices: Collection[str]) -> None:
    """Refuse a word that is not among the choices.

    Raises:
        UserError: Naming the argument and the choices.
    """
    if value not in choices:
        raise UserError(f"'{value}' is none of {', '.join(choices)}{closest(str(value), choices)}", argument)


def check_widths(argument: str, widths: Sequence[int], count: int | None = None) -> None:
    """Refuse widths that are not positive whole numbers, or not ``count`` of them.

    Raises:
        UserError: Naming the argument.
    """
    if isinstance(widths, (str, int)) or any(not isinstance(width, int) or width < 1 for width in widths):
        raise UserError(f"{widths!r} is not a list of positive whole numbers, such as [128, 128]", argument)
    if count is not None and len(widths) != count:
        raise UserError(f"{count} widths are needed, not {len(widths)}", argument)
