"""Augmentation of whole batches of images, on the device, from random numbers that are drawn once an epoch.

The numbers of an epoch are a pure function of (seed of the order, epoch, position of the sample in the epoch). They
do not depend on the batch size, on micro-batches or on how many processes share a batch; an epoch that is resumed in
its middle gets those that it would have had; and the global random state is neither read nor changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import pad

from trainoff.errors import UserError, closest
from trainoff.seeds import derive_seed

AugmentationChoice: TypeAlias = "str | Mapping[str, Any]"


class Augmentation(Protocol):
    """A random change of images, in two parts: what is drawn for each sample, and what is done with it."""

    name: ClassVar[str]

    def draw(self, samples: int, generator: torch.Generator) -> Tensor:
        """The random numbers of an epoch, ``(samples, ...)``, on the CPU."""
        ...

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """Changed images of the same shape ``(batch, channels, height, width)`` and type, as new memory."""
        ...


@dataclass(frozen=True)
class Flip:
    """Mirrors an image from left to right with probability ``p``.

    Args:
        p: From 0 to 1.

    Source: Krizhevsky, Sutskever and Hinton 2012, ImageNet Classification with Deep CNNs, section 4.1.
    """

    name: ClassVar[str] = "flip"
    p: float = 0.5

    def __post_init__(self) -> None:
        if isinstance(self.p, bool) or not isinstance(self.p, (int, float)) or not 0 <= self.p <= 1:
            raise UserError(f"{self.p!r} is not a probability; it must be from 0 to 1", "augmentation.flip.p")

    def draw(self, samples: int, generator: torch.Generator) -> Tensor:
        """Which samples are mirrored: bool, ``(samples,)``."""
        return torch.rand(samples, generator=generator) < self.p

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """Mirror those."""
        return torch.where(draws[:, None, None, None], images.flip(-1), images)


@dataclass(frozen=True)
class Crop:
    """Pads an image with black on all sides and cuts a window of its own size out, at a random place.

    Args:
        padding: Pixels on each side, from 1; each of the ``(2 * padding + 1)²`` places is equally likely.

    Source: He, Zhang, Ren and Sun 2016, Deep Residual Learning, section 4.2 (4 pixels for CIFAR-10).
    """

    name: ClassVar[str] = "crop"
    padding: int = 4

    def __post_init__(self) -> None:
        if isinstance(self.padding, bool) or not isinstance(self.padding, int) or self.padding < 1:
            raise UserError(
                f"{self.padding!r} is not a number of pixels; it must be at least 1", "augmentation.crop.padding"
            )

    def draw(self, samples: int, generator: torch.Generator) -> Tensor:
        """The window's upper left corner in the padded image, (row, column): int64, ``(samples, 2)``."""
        return torch.randint(2 * self.padding + 1, (samples, 2), generator=generator)

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """Cut the windows out."""
        height, width = images.shape[-2:]
        windows = pad(images, (self.padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)  # views, no copies
        return windows[torch.arange(len(images), device=images.device), :, draws[:, 0], draws[:, 1]]


AUGMENTATIONS: dict[str, Callable[..., Augmentation]] = {"flip": Flip, "crop": Crop}


def build_augmentations(choices: Sequence[AugmentationChoice] | AugmentationChoice | None) -> tuple[Augmentation, ...]:
    """The augmentations of a list of names and mappings, such as ``["flip", {"name": "crop", "padding": 4}]``.

    Raises:
        UserError: For an unknown name or argument, a value out of range, or a name that comes twice.
    """
    if isinstance(choices, (str, Mapping)):
        choices = [choices]
    built = tuple(_build(choice) for choice in choices or ())
    names = [augmentation.name for augmentation in built]
    if len(set(names)) < len(names):
        raise UserError(f"{', '.join(names)}: each may come once", "augmentation")
    return built


def _build(choice: AugmentationChoice) -> Augmentation:
    if not isinstance(choice, (str, Mapping)) or (not isinstance(choice, str) and "name" not in choice):
        raise UserError(f"{choice!r} is neither a name nor a mapping with a name", "augmentation")
    arguments = {} if isinstance(choice, str) else dict(choice)
    name = choice if isinstance(choice, str) else arguments.pop("name")
    if name not in AUGMENTATIONS:
        known = ", ".join(AUGMENTATIONS)
        raise UserError(f"'{name}' is not one of {known}{closest(name, AUGMENTATIONS)}", "augmentation")
    try:
        return AUGMENTATIONS[name](**arguments)
    except TypeError as error:
        fields = ", ".join(AUGMENTATIONS[name].__dataclass_fields__)  # type: ignore[attr-defined]
        raise UserError(f"takes {fields}, not {', '.join(map(str, arguments))}", f"augmentation.{name}") from error


@dataclass(frozen=True)
class ImageTransform:
    """From slices of pixels, uint8 ``(batch, channels, height, width)``, to what a net is given: float32, normalised.

    Pixels are augmented first, so that a padded pixel is a black one. The batch is new memory: the data set, of
    which a batch may be a view, is never changed.

    Args:
        mean: Of the pixels of a channel, ``(channels, 1, 1)``, or ``()`` for all.
        std: Their standard deviation, of the same shape.
        augmentations: What to do with the pixels, in order.
    """

    mean: Tensor
    std: Tensor
    augmentations: tuple[Augmentation, ...] = ()

    def for_epoch(
        self, samples: int, seed: int, epoch: int, device: torch.device
    ) -> Callable[[tuple[Tensor, ...], int, int], tuple[Tensor, ...]]:
        """Draw the epoch's numbers; see :class:`trainoff.datamodules.tensor_batches.BatchTransform`."""
        mean, std = (value.to(device, torch.float32) for value in (self.mean, self.std))
        draws = [
            augmentation.draw(samples, _generator(seed, augmentation.name, epoch)).to(device)
            for augmentation in self.augmentations
        ]

        def transform(batch: tuple[Tensor, ...], start: int, stop: int) -> tuple[Tensor, ...]:
            images, *others = batch
            for augmentation, drawn in zip(self.augmentations, draws, strict=True):
                images = augmentation.apply(images, drawn[start:stop])
            return (images.to(torch.float32).sub_(mean).div_(std), *others)

        return transform


def _generator(seed: int, name: str, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, "augmentation", name, epoch))
