"""Architectures by name; data only. A net's class is imported when it is first used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from trainoff.lazy_imports import lazy_attributes
from trainoff.registry import Entry, Registry, class_homes


@dataclass(frozen=True)
class NetEntry(Entry):
    """A net's entry.

    Args:
        inputs: The shape of one sample that the net takes, in words.
        domain: What a sample is: of any shape, an image (channels, height, width), a series of numbers (length,) or
            (channels, length), a series of token numbers (length,), or a pair of those.
        tiny: Arguments of a variant that trains in seconds on a CPU.
        tiny_shape: The shape of one sample that the tiny variant is tried with.
    """

    inputs: str = "any shape"
    domain: Literal["any", "images", "series", "tokens", "token pairs", "image generation"] = "any"
    tiny: Mapping[str, Any] = field(default_factory=dict)
    tiny_shape: tuple[int, ...] = (1, 28, 28)


_IMAGES = "images (channels, height, width)"

NETS = Registry(
    "net",
    [
        NetEntry(
            "linear",
            "trainoff.modules.nets.linear:Linear",
            "one affine layer: linear or logistic regression",
            "y = Wx + b",
        ),
        NetEntry(
            "mlp",
            "trainoff.modules.nets.mlp:MLP",
            "fully connected layers; widths, activation, norm and dropout are arguments",
            "hₖ = dropout(φ(norm(Wₖhₖ₋₁ + bₖ)))",
            "Rumelhart, Hinton & Williams 1986, Learning representations by back-propagating errors",
            tiny={"hidden": [16, 16]},
        ),
        NetEntry(
            "lenet5",
            "trainoff.modules.nets.lenet5:LeNet5",
            "two convolutions and three dense layers; 61,706 parameters",
            paper="LeCun et al. 1998, Gradient-based learning applied to document recognition",
            inputs=f"{_IMAGES}, from 12 x 12",
            domain="images",
        ),
        NetEntry(
            "2c2d",
            "trainoff.modules.nets.deepobs_2c2d:DeepObs2c2d",
            "DeepOBS's net for Fashion-MNIST: two convolutions, two dense layers; 3,274,634 parameters",
            paper="Schneider, Balles & Hennig 2019, DeepOBS: a deep learning optimizer benchmark suite",
            inputs=_IMAGES,
            domain="images",
            tiny={"channels": [4, 8], "dense": 16},
        ),
        NetEntry(
            "resnet20",
            "trainoff.modules.nets.resnet_cifar:CifarResNet",
            "the small residual net for CIFAR, of depth 6n + 2; 0.27 M parameters at depth 20",
            "y = φ(x + F(x))",
            "He et al. 2016, Deep residual learning for image recognition, section 4.2",
            inputs=_IMAGES,
            domain="images",
            tiny={"depth": 8, "width": 4},
        ),
        NetEntry(
            "cell_net",
            "trainoff.modules.nets.cell_net:CellNet",
            "cells, which are graphs of operations, in sequence, residual or dense: for architecture search",
            "hⱼ = Σᵢ opᵢⱼ(hᵢ) within a cell",
            "Liu et al. 2018, Hierarchical representations for efficient architecture search",
            inputs=_IMAGES,
            domain="images",
            tiny={"width": 4},
        ),
        NetEntry(
            "dcgan",
            "trainoff.modules.nets.dcgan:DCGAN",
            "a convolutional generator and discriminator of images; for the module gan",
            "G = tanh(convᵀ(…φ(norm(convᵀ(Wz))))), D = w·φ(norm(conv(…φ(conv(x)))))",
            "Radford, Metz & Chintala 2016, Unsupervised representation learning with deep convolutional generative "
            "adversarial networks",
            inputs=f"{_IMAGES}, sides multiples of 4",
            domain="image generation",
            tiny={"latent": 8, "width": 4},
        ),
    ],
    NetEntry,
    "trainoff.nets",
)

# The classes by their own names too, imported when first used.
_HOMES = class_homes(NETS)

__all__ = ["NETS", "NetEntry", *_HOMES]


__getattr__ = lazy_attributes(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
