"""The losses of a GAN's two players, as functions of the discriminator's logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

GANLossName = Literal["logistic", "hinge", "wasserstein", "least_squares"]


class GANLoss(NamedTuple):
    """Both players' losses, means over a batch.

    Args:
        discriminator: From D(x) of real images and D(G(z)) of generated ones.
        generator: From D(G(z)).
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


def _logistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def _logistic_generator(fake: Tensor) -> Tensor:
    return F.softplus(-fake).mean()


def _hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def _wasserstein_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return fake.mean() - real.mean()


def _negative_mean(fake: Tensor) -> Tensor:
    return -fake.mean()


def _least_squares_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return torch.square(real - 1).mean() / 2 + torch.square(fake).mean() / 2


def _least_squares_generator(fake: Tensor) -> Tensor:
    return torch.square(fake - 1).mean() / 2


GAN_LOSSES: dict[str, GANLoss] = {
    # Non-saturating: Goodfellow et al. 2014, section 3. −log σ(D(x)) − log(1 − σ(D(G(z)))), −log σ(D(G(z))).
    "logistic": GANLoss(_logistic_discriminator, _logistic_generator),
    # Lim & Ye 2017, Geometric GAN, eqs. 16 and 17.
    "hinge": GANLoss(_hinge_discriminator, _negative_mean),
    # Arjovsky, Chintala & Bottou 2017; the discriminator has to be kept smooth, as by r1.
    "wasserstein": GANLoss(_wasserstein_discriminator, _negative_mean),
    # Mao et al. 2017, eq. 9.
    "least_squares": GANLoss(_least_squares_discriminator, _least_squares_generator),
}
