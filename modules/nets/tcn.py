"""The temporal convolutional net: causal, dilated, residual."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.nets.drop_path import DropPath, set_drop_path
from trainoff.modules.nets.layers import ChannelRMSNorm, check_widths, dropout_place
from trainoff.modules.nets.layers import activation as activation_named

NORMS_OF_SERIES = ("weight", "batch", "rms", None)


class CausalConv1d(nn.Conv1d):
    """A dilated convolution whose output at t sees the inputs at t, t − d, ..., t − (k − 1) d and no others.

    What lies before the series is zero. From (batch, inputs, length) to (batch, outputs, length).

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.
        kernel: k, the number of steps that are seen.
        dilation: d, the distance between them.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int) -> None:
        super().__init__(inputs, outputs, kernel, dilation=dilation)
        self.past = (kernel - 1) * dilation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The convolution over the past and the present."""
        return F.conv1d(F.pad(x, (self.past, 0)), self.kernel_weight(), self.bias, dilation=self.dilation)

    def kernel_weight(self) -> torch.Tensor:
        """The weight that is convolved with."""
        return self.weight


class WeightNormCausalConv1d(CausalConv1d):
    """A causal convolution by g · v / ‖v‖, its direction and its length apart (Salimans & Kingma 2016, eq. 2).

    v is ``weight``; g is ``length``, one number for each output channel, at first ‖v‖. (torch's ``weight_norm`` makes
    a module that cannot be pickled.)
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int) -> None:
        super().__init__(inputs, outputs, kernel, dilation)
        self.length = nn.Parameter(torch.empty(outputs))
        self.reset_length()

    def reset_length(self) -> None:
        """Make g the length of v, after v was drawn."""
        with torch.no_grad():
            self.length.copy_(self.weight.flatten(1).norm(dim=1))

    def kernel_weight(self) -> torch.Tensor:
        """The weight of each output channel at the length g: g · v / ‖v‖."""
        scale: torch.Tensor = self.length / self.weight.flatten(1).norm(dim=1)
        return self.weight * scale[:, None, None]


class TemporalBlock(nn.Module):
    """Two causal convolutions, each with norm, activation and dropout, around which the input is added (figure 1 b).

    y = φ(x + F(x)); a 1 x 1 convolution of x where the channels differ. From (batch, inputs, length) to (batch,
    channels, length). It has no ``residual_branch()``: F ends in an activation, and behind a zero weight ReLU would
    never let a gradient through.

    Args:
        inputs: Channels of the input.
        channels: Of the output.
        kernel: Steps that each convolution sees.
        dilation: Distance between them.
        activation: By name.
        norm: By name.
        dropout: Share of each convolution's activations that is zeroed in training.
    """

    def __init__(
        self, inputs: int, channels: int, kernel: int, dilation: int, activation: str, norm: str | None, dropout: float
    ) -> None:
        super().__init__()
        convolution = WeightNormCausalConv1d if norm == "weight" else CausalConv1d
        self.branch = nn.Sequential(
            convolution(inputs, channels, kernel, dilation),
            _norm(norm, channels),
            activation_named(activation),
            dropout_place(dropout),
            convolution(channels, channels, kernel, dilation),
            _norm(norm, channels),
            activation_named(activation),
            dropout_place(dropout),
        )
        self.drop_path = DropPath()
        self.shortcut = nn.Identity() if inputs == channels else nn.Conv1d(inputs, channels, 1)
        self.activation = activation_named(activation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The shortcut plus the branch."""
        return self.activation(self.shortcut(x) + self.drop_path(self.branch(x)))  # type: ignore[no-any-return]


class TCN(nn.Module):
    """The temporal convolutional net (Bai, Kolter & Koltun 2018, section 3).

    ``depth`` blocks of two causal convolutions, the n-th with dilation 2ⁿ⁻¹, and a dense layer on the last step, or on
    every one. No output depends on a later input. An output depends on the last 1 + 2 (k − 1) (2ⁿ − 1) inputs, for
    kernels of k steps and n blocks: 3,061 at the defaults, which are the paper's for sequential MNIST.

    Args:
        input_shape: (length,) or (channels, length); the net takes other lengths too.
        output_size: Number of outputs, of each step with ``every_step``.
        width: Channels of every block.
        depth: Number of blocks.
        kernel: Steps that each convolution sees, from 2.
        every_step: Outputs (batch, length, output_size), one for each step, in place of the last step's (batch,
            output_size).
        tokens: Inputs are token numbers below ``output_size``, (batch, length), which are embedded in ``width``
            numbers.
        activation: See :data:`trainoff.modules.nets.layers.ACTIVATIONS`.
        norm: ``weight`` (the paper's), ``batch``, ``rms`` (each step over its channels) or None. Others would mix
            steps, and with them the future into the past; batch norm does so in training.
        dropout: Share of each convolution's activations that is zeroed in training, in [0, 1).
        drop_path: Share of samples for which the last block's branch is left out in training, in [0, 1); earlier ones
            less, in proportion to their depth.

    Raises:
        UserError: For inputs that are no series, an unknown activation, another norm, or a number that makes no sense.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_size: int,
        width: int = 25,
        depth: int = 8,
        kernel: int = 7,
        every_step: bool = False,
        tokens: bool = False,
        activation: str = "relu",
        norm: str | None = "weight",
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        for name, number in (("width", width), ("depth", depth), ("kernel", kernel)):
            check_widths(name, [number])
        if kernel < 2:
            raise UserError("a kernel of one step sees no past; take 2 or more", "kernel")
        inputs = _channels(input_shape, tokens)
        self.every_step = every_step
        self.embedding = nn.Embedding(output_size, width) if tokens else None
        self.blocks = nn.Sequential()
        for number in range(depth):
            channels = width if tokens or number > 0 else inputs
            self.blocks.append(TemporalBlock(channels, width, kernel, 2**number, activation, norm, dropout))
        set_drop_path(self, drop_path)
        self.output = nn.Linear(width, output_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (batch, length) or (batch, channels, length) to (batch, output_size), or with ``every_step`` (batch,
        length, output_size).
        """
        if self.embedding is not None:
            x = self.embedding(x).transpose(1, 2)
        elif x.ndim == 2:
            x = x.unsqueeze(1)
        steps = self.blocks(x).transpose(1, 2)  # (batch, length, width)
        return self.output(steps if self.every_step else steps[:, -1])  # type: ignore[no-any-return]


def _norm(norm: str | None, channels: int) -> nn.Module:
    if norm not in NORMS_OF_SERIES:
        raise UserError(
            f"series are normalised by weight, batch or rms, or not at all (null), not by {norm!r}", "norm"
        )
    if norm == "batch":
        return nn.BatchNorm1d(channels)
    return ChannelRMSNorm(channels) if norm == "rms" else nn.Identity()


def _channels(input_shape: Sequence[int], tokens: bool) -> int:
    if len(input_shape) not in ((1,) if tokens else (1, 2)):
        shapes = "(length,)" if tokens else "(length,) or (channels, length)"
        raise UserError(f"tcn takes series {shapes}, not samples of shape {tuple(input_shape)}", "input_shape")
    return 1 if len(input_shape) == 1 else input_shape[0]
