"""Alterations of a set's splits: what makes an easy set hard in a known way.

All randomness is that of :func:`trainoff.datamodules.splits.random_words`, which never changes for a given seed.
Validation and test labels stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainoff.datamodules.splits import random_words, split_order, with_label_noise
from trainoff.errors import UserError

Splits = Mapping[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class LabelNoise:
    """Replaces ``round(fraction · n)`` of the n training labels.

    Args:
        fraction: The share of labels to replace, from 0 to 1.
        kind: ``"symmetric"`` for any other class, each equally likely; ``"pair"`` for the next class, the first one
            after the last.
        seed: Which labels, and by which classes.

    Source: Han et al. 2018, Co-teaching, section 4 (symmetry and pair flipping).
    """

    fraction: float
    kind: Literal["symmetric", "pair"] = "symmetric"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise UserError(f"{self.fraction} is not a share; it must be from 0 to 1", "label_noise.fraction")
        if self.kind not in ("symmetric", "pair"):
            raise UserError(f"{self.kind!r} is neither symmetric nor pair", "label_noise.kind")

    def apply(self, splits: Splits, num_classes: int | None) -> Splits:
        """The same splits with noisy training labels."""
        inputs, targets = splits["train"]
        labels, classes = _labels(targets, num_classes, "label_noise")
        if self.kind == "symmetric":
            noisy = with_label_noise(labels, classes, self.fraction, self.seed)
        else:
            chosen = np.argsort(random_words(len(labels), self.seed, "pair_noise"), kind="stable")
            chosen = chosen[: round(self.fraction * len(labels))]
            noisy = labels.copy()
            noisy[chosen] = (labels[chosen] + 1) % classes
        return {**splits, "train": (inputs, torch.from_numpy(noisy))}


@dataclass(frozen=True)
class Imbalance:
    """Keeps nᵢ = n · ratio^(−i/(K−1)) training samples of class i of K, rounded, at least one.

    n is the largest number for which every class has that many samples: the size of a class where all are equal.

    Args:
        ratio: Of the first class' size to the last one's, from 1.
        seed: Which samples are kept.

    Source: Cui et al. 2019, Class-balanced loss, section 5.1 (long-tailed CIFAR), where μ = ratio^(−1/(K−1)).
    """

    ratio: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.ratio >= 1:
            raise UserError(
                f"{self.ratio} is below 1; it is the first class' size over the last one's", "imbalance.ratio"
            )

    def apply(self, splits: Splits, num_classes: int | None) -> Splits:
        """The same splits with fewer training samples, in their order."""
        labels, classes = _labels(splits["train"][1], num_classes, "imbalance")
        counts = np.bincount(labels, minlength=classes)
        shares = [self.ratio ** (-i / max(classes - 1, 1)) for i in range(classes)]
        # a rounding error must not cost a sample of classes that are equal
        largest = int(min(count / share for count, share in zip(counts, shares, strict=True)) + 1e-9)
        if largest < 1:
            raise UserError(f"class {int(counts.argmin())} has no training sample", "imbalance")
        shuffled = np.argsort(random_words(len(labels), self.seed, "imbalance"), kind="stable")
        kept = [
            shuffled[labels[shuffled] == label][: max(1, round(largest * share))] for label, share in enumerate(shares)
        ]
        return _with_training(splits, np.sort(np.concatenate(kept)))


@dataclass(frozen=True)
class FewerSamples:
    """Keeps only some training samples; a smaller number keeps a subset of what a larger one keeps.

    Args:
        samples: How many.
        seed: Which ones.
    """

    samples: int
    seed: int = 0

    def apply(self, splits: Splits, num_classes: int | None) -> Splits:
        """The same splits with so many training samples, stratified where targets are classes."""
        targets = splits["train"][1]
        if not 1 <= self.samples <= len(targets):
            raise UserError(
                f"{self.samples} is not from 1 to the {len(targets)} training samples", "fewer_samples.samples"
            )
        order = split_order(targets.numpy(), self.seed, num_classes is not None and targets.ndim == 1)
        return _with_training(splits, order[: self.samples])


@dataclass(frozen=True)
class PermuteLabels:
    """Deals the training targets out anew among the training samples; each class keeps its number.

    Args:
        seed: Of the permutation.

    Source: Zhang et al. 2017, Understanding deep learning requires rethinking generalization, section 2.1. There
    labels are drawn independently; a permutation keeps the classes' frequencies too, and serves regressions.
    """

    seed: int = 0

    def apply(self, splits: Splits, num_classes: int | None) -> Splits:
        """The same splits with permuted training targets."""
        inputs, targets = splits["train"]
        order = np.argsort(random_words(len(targets), self.seed, "permute_labels"), kind="stable")
        return {**splits, "train": (inputs, targets[torch.from_numpy(order)])}


@dataclass(frozen=True)
class PermuteInputs:
    """Puts the places of every input into another order, the same one for all inputs of all splits.

    Places are pixels for images ``(channels, height, width)``, whose channels stay together; for other shapes each
    number is one.

    Args:
        seed: Of the permutation.

    Source: Goodfellow et al. 2013, An empirical investigation of catastrophic forgetting, section 5.
    """

    seed: int = 0

    def apply(self, splits: Splits, num_classes: int | None) -> Splits:
        """All splits with permuted inputs; targets stay."""
        shape = splits["train"][0].shape[1:]
        places = math.prod(shape[1:] if len(shape) == 3 else shape)
        order = torch.from_numpy(np.argsort(random_words(places, self.seed, "permute_inputs"), kind="stable"))
        return {
            name: (inputs.reshape(len(inputs), -1, places)[:, :, order].reshape(inputs.shape), targets)
            for name, (inputs, targets) in splits.items()
        }


def _labels(targets: Tensor, num_classes: int | None, where: str) -> tuple[npt.NDArray[np.int64], int]:
    if num_classes is None or targets.ndim != 1 or targets.is_floating_point():
        raise UserError("needs one class a sample, which this set has not; leave it out", where)
    labels: npt.NDArray[np.int64] = targets.numpy()
    return labels, num_classes


def _with_training(splits: Splits, kept: npt.NDArray[np.int64]) -> Splits:
    rows = torch.from_numpy(kept)
    inputs, targets = splits["train"]
    return {**splits, "train": (inputs[rows], targets[rows])}
