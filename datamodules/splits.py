"""From a raw data set to its train, validation and test samples, by a seed alone.

The randomness is the raw 64-bit output of NumPy's PCG64, whose stream NumPy promises not to change (NEP 19), sorted
by a stable sort. NumPy's and torch's ``permutation`` and ``choice`` have no such promise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trainoff.errors import UserError
from trainoff.seeds import derive_seed

Array = npt.NDArray[Any]


class RawData(NamedTuple):
    """A data set as it comes: inputs ``(n, *input_shape)``; targets ``(n,)``, classes counted from 0 or numbers.

    The test arrays are those of the official test split, None where the set has none; likewise for validation.
    """

    inputs: Array
    targets: Array
    test_inputs: Array | None = None
    test_targets: Array | None = None
    val_inputs: Array | None = None
    val_targets: Array | None = None


class Split(NamedTuple):
    """The samples of one split: inputs and targets of equal length."""

    inputs: Array
    targets: Array


class Splits(NamedTuple):
    """The three splits of a set."""

    train: Split
    val: Split
    test: Split


@dataclass(frozen=True)
class SplitPlan:
    """How a data set is split; the arguments are those of :class:`TensorDataModule`.

    A fraction is None where the set has an official split of that name.

    Raises:
        UserError: Where a fraction is out of range.
    """

    seed: int
    val_fraction: float | None
    test_fraction: float | None
    label_noise: float
    train_samples: int | None

    def __post_init__(self) -> None:
        if self.val_fraction is not None and not 0 < self.val_fraction < 1:
            raise UserError(f"{self.val_fraction} is not a share; it must be between 0 and 1", "val_fraction")
        if self.test_fraction is not None and not 0 < self.test_fraction < 1 - (self.val_fraction or 0):
            raise UserError(f"{self.test_fraction} must be between 0 and 1 - val_fraction", "test_fraction")
        if not 0 <= self.label_noise <= 1:
            raise UserError(f"{self.label_noise} is not a share; it must be from 0 to 1", "label_noise")

    def cut(self, raw: RawData, num_classes: int | None) -> Splits:
        """The train, validation and test splits, with noise on the training labels.

        Validation, test and training samples are consecutive parts of one :func:`split_order`; of the last,
        ``train_samples`` keeps the first ones, so that a smaller training split is a subset of a larger one, and the
        other splits do not depend on it.

        Args:
            raw: The whole set.
            num_classes: The number of classes, which are then stratified; None for regression.

        Raises:
            UserError: Where a split would be empty, ``train_samples`` is out of range, or a fraction does not go with
                the set: it is None where there is an official split, and a number where there is none.
        """
        _check_fraction(self.test_fraction, raw.test_inputs, "test")
        _check_fraction(self.val_fraction, raw.val_inputs, "val")
        order = split_order(raw.targets, self.seed, stratified=num_classes is not None)
        val = round((self.val_fraction or 0) * len(order))
        test = round((self.test_fraction or 0) * len(order))
        left = len(order) - val - test
        enough_to_validate = self.val_fraction is None or val >= 1
        if not enough_to_validate or left < 1 or (self.test_fraction is not None and test < 1):
            raise UserError(
                f"{len(order)} samples would be split into {left} to train, {val} to validate and {test} to test",
                "val_fraction" if test or self.test_fraction is None else "test_fraction",
            )
        if self.train_samples is not None and not 1 <= self.train_samples <= left:
            raise UserError(
                f"{self.train_samples} is not from 1 to the {left} that are left to train", "train_samples"
            )
        parts = order[val + test :][: self.train_samples], order[:val], order[val : val + test]
        training, validation, testing = (Split(raw.inputs[part], raw.targets[part]) for part in parts)
        if raw.test_inputs is not None and raw.test_targets is not None:
            testing = Split(raw.test_inputs, raw.test_targets)
        if raw.val_inputs is not None and raw.val_targets is not None:
            validation = Split(raw.val_inputs, raw.val_targets)
        if num_classes is not None:
            noisy = with_label_noise(training.targets, num_classes, self.label_noise, self.seed)
            training = training._replace(targets=noisy)
        return Splits(training, validation, testing)


def _check_fraction(fraction: float | None, official: Array | None, split: str) -> None:
    if (fraction is None) != (official is not None):
        facts = f"no official {split} split; give a share" if official is None else "one; leave it None"
        raise UserError(f"{fraction} does not go with this set, which has {facts}", f"{split}_fraction")


def random_words(count: int, seed: int, purpose: str) -> npt.NDArray[np.uint64]:
    """``count`` random 64-bit numbers that never change for a given seed and purpose."""
    words: npt.NDArray[np.uint64] = np.random.PCG64(derive_seed(seed, purpose)).random_raw(count)
    return words


def split_order(targets: Array, seed: int, stratified: bool) -> npt.NDArray[np.int64]:
    """An order of the samples from which splits are cut as consecutive parts.

    A stratified order spreads each class evenly: the samples of a class of size m get the places (1/2)/m, (3/2)/m,
    ... of the unit interval, in random order. Each consecutive part then holds every class in its proportion, but
    for one sample or two.

    Args:
        targets: Of shape ``(n,)`` or ``(n, outputs)``; read only where stratified.
        seed: The seed of the split.
        stratified: Spread the classes evenly.

    Returns:
        Indices of shape ``(n,)``.
    """
    shuffled = np.argsort(random_words(len(targets), seed, "split"), kind="stable")
    if not stratified:
        return shuffled
    classes = targets[shuffled]
    place = np.empty(len(targets))
    for label in np.unique(classes):
        members = np.flatnonzero(classes == label)
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return shuffled[np.lexsort((classes, place))]


def with_label_noise(labels: Array, num_classes: int, fraction: float, seed: int) -> Array:
    """A copy of the labels in which ``round(fraction * n)`` of them are replaced by another class.

    The noise is symmetric: each of the other classes is equally likely.

    Args:
        labels: Integers of shape ``(n,)``.
        num_classes: The number of classes.
        fraction: The share of labels to replace, from 0 to 1.
        seed: The seed of the split.
    """
    noisy: Array = labels.copy()
    words = random_words(2 * len(labels), seed, "label_noise")
    chosen = np.argsort(words[: len(labels)], kind="stable")[: round(fraction * len(labels))]
    shift = 1 + (words[len(labels) :][chosen] % np.uint64(num_classes - 1)).astype(labels.dtype)
    noisy[chosen] = (labels[chosen] + shift) % num_classes
    return noisy
