"""What a net offers to be trained as a GAN."""

from __future__ import annotations

from typing import Protocol, cast

from torch import nn

from trainoff.errors import UserError


class GANNet(Protocol):
    """A generator and a discriminator; ``dcgan`` is one.

    ``generator`` makes images in [−1, 1] (batch, *input_shape) from latent vectors (batch, ``latent``);
    ``discriminator`` gives each image a logit (batch, 1), high for a real one.
    """

    latent: int
    generator: nn.Module
    discriminator: nn.Module


def as_gan_net(net: nn.Module | None) -> GANNet:
    """The net, where it is one.

    Raises:
        UserError: Where it is not.
    """
    if not all(hasattr(net, name) for name in ("generator", "discriminator", "latent")):
        raise UserError(f"{type(net).__name__} is no GAN: it needs generator, discriminator and latent", "net")
    return cast(GANNet, net)
