"""The VGG nets, VGG-16 among them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from trainoff.errors import UserError
from trainoff.modules.nets.layers import Norm, check_one_of, check_widths, convolution, dropout_place, image_sizes
from trainoff.modules.nets.layers import activation as activation_named

# Convolutions of each of the five stages (table 1, columns A, B, D and E).
CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


class VGG(nn.Module):
    """VGG (Simonyan & Zisserman 2015, table 1): 3 x 3 convolutions in five stages, max pooling over 2 x 2 after each.

    The stages have 1, 2, 4, 8 and 8 times ``width`` channels. A side of odd length is pooled as if it were one longer,
    so that images of any size pass. What follows the stages is the ``head``:

    - ``imagenet``: 7 x 7 positions (of images other than 224 x 224 the mean over 7 x 7 parts), two dense layers of
      4096 units, the output;
    - ``small``: the mean over positions and the output, as is usual on CIFAR, where dense layers of that size would
      hold nine tenths of the parameters. With it take ``norm: batch``.

    Weights start as torchvision's: convolutions by He et al. 2015, normal with variance 2 / fan out; dense layers
    normal with standard deviation 0.01; biases 0. torchvision's convolutions have biases also before batch norm, which
    takes them out again; those here have none then.

    Parameters for images of three channels and a thousand classes:

    ====== =========== =================================
    depth  imagenet    small, ``norm: batch``, 10 classes
    ====== =========== =================================
    11     132,863,336 9,228,362
    13     133,047,848 9,413,066
    16     138,357,544 14,724,042
    19     143,667,240 20,035,018
    ====== =========== =================================

    Args:
        input_shape: (channels, height, width).
        output_size: Number of outputs.
        depth: 11, 13, 16 or 19 layers with weights, of the head ``imagenet``.
        width: Channels of the first stage.
        dense: Width of the two hidden dense layers of the head ``imagenet``.
        head: ``imagenet`` or ``small``.
        activation: See :data:`trainoff.modules.nets.layers.ACTIVATIONS`.
        norm: After each convolution; see :func:`trainoff.modules.nets.layers.norm_layer`.
        dropout: Share that is zeroed in training after each hidden dense layer, or before the output of the head
            ``small``, in [0, 1); 0.5 in the paper.

    Raises:
        UserError: For inputs that are no images, an unknown depth, head, activation or norm, or a width or share that
            makes no sense.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_size: int,
        depth: int = 16,
        width: int = 64,
        dense: int = 4096,
        head: str = "imagenet",
        activation: str = "relu",
        norm: Norm = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        channels, _, _ = image_sizes(input_shape)
        check_widths("width", [width])
        check_widths("dense", [dense])
        check_one_of("head", head, ("imagenet", "small"))
        if depth not in CONVOLUTIONS:
            raise UserError(f"the depth is one of {', '.join(map(str, CONVOLUTIONS))}, not {depth}", "depth")
        self.convolutions = nn.Sequential()
        for count, factor in zip(CONVOLUTIONS[depth], (1, 2, 4, 8, 8), strict=True):
            for _ in range(count):
                self.convolutions.append(convolution(channels, width * factor, 3, activation, norm, padding=1))
                channels = width * factor
            self.convolutions.append(nn.MaxPool2d(2, ceil_mode=True))
        if head == "imagenet":
            self.head = nn.Sequential(
                nn.AdaptiveAvgPool2d(7),
                nn.Flatten(),
                nn.Linear(channels * 7 * 7, dense),
                activation_named(activation),
                dropout_place(dropout),
                nn.Linear(dense, dense),
                activation_named(activation),
                dropout_place(dropout),
                nn.Linear(dense, output_size),
            )
        else:
            self.head = nn.Sequential(
                nn.AdaptiveAvgPool2d(1), nn.Flatten(), dropout_place(dropout), nn.Linear(channels, output_size)
            )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.01)
            if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, height, width) to (batch, output_size)."""
        return self.head(self.convolutions(x))  # type: ignore[no-any-return]
