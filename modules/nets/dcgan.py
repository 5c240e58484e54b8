"""DCGAN: a generator and a discriminator of images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from trainoff.errors import UserError
from trainoff.modules.nets.layers import Norm, check_widths, dropout_place, image_sizes, norm_layer
from trainoff.modules.nets.layers import activation as activation_named


class DCGAN(nn.Module):
    """The convolutional GAN (Radford, Metz & Chintala 2016, section 3 and figure 1).

    The generator projects a latent vector to a small image with many channels, and each transposed convolution of
    stride 2 doubles its side and halves its channels; the discriminator goes the other way. As in the paper: no
    pooling, no dense hidden layer, no biases; batch norm everywhere but at the generator's output and the
    discriminator's input; ReLU in the generator, tanh at its output, LeakyReLU of slope 0.2 in the discriminator;
    weights start normal with deviation 0.02. Batch norm's scales start as in the paper's code: normal around 1 with
    deviation 0.02.

    Parameters for (3, 64, 64): 18,855,040 in the generator, 17,232,768 in the discriminator. With a width of 64 and
    kernels of 4, as in PyTorch's example: 3,576,704 and 2,765,568.

    Args:
        input_shape: (channels, height, width) of an image; the sides are multiples of 4.
        output_size: Outputs of the discriminator.
        latent: Numbers in a latent vector.
        width: Channels beside the image; they double with each halving of the side.
        depth: Convolutions of stride 2; by default as many as lead to a side of 4 or an odd one, and at least 2.
        kernel_size: Of every convolution: 5 as in the paper's figure; 4 overlaps evenly with a stride of 2.
        activation: Of the generator; see :data:`trainoff.modules.nets.layers.ACTIVATIONS`.
        leak: Slope of the discriminator's LeakyReLU below 0.
        norm: See :func:`trainoff.modules.nets.layers.norm_layer`; without one the convolutions have biases.
        dropout: Share of the inputs of the discriminator's last layer that is zeroed in training, in [0, 1).

    Raises:
        UserError: For inputs that are no images, sides that cannot be halved so often, or a number that makes no
            sense.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_size: int = 1,
        latent: int = 100,
        width: int = 128,
        depth: int | None = None,
        kernel_size: int = 5,
        activation: str = "relu",
        leak: float = 0.2,
        norm: Norm = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        channels, height, width_of_image = image_sizes(input_shape)
        check_widths("width", [width])
        check_widths("latent", [latent])
        if kernel_size not in (4, 5):
            raise UserError(f"kernels are 4 or 5 wide, not {kernel_size}", "kernel_size")
        halvings = _halvings(height, width_of_image) if depth is None else depth
        if halvings < 1 or height % 2**halvings or width_of_image % 2**halvings:
            raise UserError(
                f"the sides of {height} x {width_of_image} cannot be halved {max(halvings, 2)} times", "input_shape"
            )
        smallest = (height // 2**halvings, width_of_image // 2**halvings)
        widths = [width * 2**level for level in range(halvings)]  # from the image inwards
        self.latent = latent
        self.generator = _generator(latent, smallest, [channels, *widths], kernel_size, activation, norm)
        self.discriminator = _discriminator(
            smallest, [channels, *widths], output_size, kernel_size, leak, norm, dropout
        )
        self.apply(_initialise)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The discriminator: from (batch, channels, height, width) to logits (batch, output_size)."""
        return self.discriminator(images)  # type: ignore[no-any-return]

    def generate(self, latents: torch.Tensor) -> torch.Tensor:
        """The generator: from (batch, latent) to images (batch, channels, height, width) in (−1, 1)."""
        return self.generator(latents)  # type: ignore[no-any-return]


def _halvings(height: int, width: int) -> int:
    count = 0
    while height % 2 == 0 and width % 2 == 0 and (min(height, width) > 4 or count < 2):
        height, width, count = height // 2, width // 2, count + 1
    return count if count > 1 else 0


def _generator(
    latent: int, smallest: tuple[int, int], widths: Sequence[int], kernel_size: int, activation: str, norm: Norm
) -> nn.Sequential:
    bias = norm is None
    innermost = widths[-1]
    layers = [
        nn.Linear(latent, innermost * smallest[0] * smallest[1], bias=bias),
        nn.Unflatten(1, (innermost, *smallest)),
        norm_layer(norm, innermost, dimensions=2),
        activation_named(activation),
    ]
    # The padding makes the side twice as long for both kernels.
    padding, output_padding = (kernel_size - 1) // 2, kernel_size % 2
    for level in range(len(widths) - 1, 0, -1):
        before, after = widths[level], widths[level - 1]
        layers.append(nn.ConvTranspose2d(before, after, kernel_size, 2, padding, output_padding, bias=bias))
        layers += [nn.Tanh()] if level == 1 else [norm_layer(norm, after, dimensions=2), activation_named(activation)]
    return nn.Sequential(*layers)


def _discriminator(
    smallest: tuple[int, int],
    widths: Sequence[int],
    output_size: int,
    kernel_size: int,
    leak: float,
    norm: Norm,
    dropout: float,
) -> nn.Sequential:
    bias = norm is None
    layers: list[nn.Module] = []
    for level in range(1, len(widths)):
        padding = (kernel_size - 1) // 2
        layers.append(nn.Conv2d(widths[level - 1], widths[level], kernel_size, stride=2, padding=padding, bias=bias))
        if level > 1:
            layers.append(norm_layer(norm, widths[level], dimensions=2))
        layers.append(nn.LeakyReLU(leak))
    layers += [nn.Flatten(), dropout_place(dropout)]
    layers.append(nn.Linear(widths[-1] * smallest[0] * smallest[1], output_size, bias=bias))
    return nn.Sequential(*layers)


def _initialise(layer: nn.Module) -> None:
    if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(layer.weight, std=0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, mean=1.0, std=0.02)
