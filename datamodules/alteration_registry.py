"""What can be done to the splits of a set, by name. Data only: no torch is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from trainoff.registry import Entry, Registry

if TYPE_CHECKING:
    from torch import Tensor


class Alteration(Protocol):
    """Changes the splits of a set that is held in memory."""

    def apply(
        self, splits: Mapping[str, tuple[Tensor, Tensor]], num_classes: int | None
    ) -> Mapping[str, tuple[Tensor, Tensor]]:
        """New splits; the given tensors stay as they are.

        Args:
            splits: Inputs and targets of ``train``, ``val`` and ``test``.
            num_classes: The number of classes; None where the targets are no classes.

        Raises:
            UserError: Where the alteration does not fit the set.
        """


_HOME = "trainoff.datamodules.alterations"

ALTERATIONS = Registry(
    "alteration",
    [
        Entry(
            "label_noise",
            f"{_HOME}:LabelNoise",
            "replaces a share of the training labels, by any other class or by the next one",
            "symmetric: y ← another class, each equally likely; pair: y ← (y + 1) mod K",
            "Han et al. 2018, Co-teaching: robust training of deep networks with extremely noisy labels, section 4",
        ),
        Entry(
            "imbalance",
            f"{_HOME}:Imbalance",
            "a long tail: keeps exponentially fewer training samples of each further class",
            "nᵢ = n · ratio^(−i/(K−1)), i = 0 … K−1",
            "Cui et al. 2019, Class-balanced loss based on effective number of samples, section 5.1",
        ),
        Entry(
            "fewer_samples",
            f"{_HOME}:FewerSamples",
            "keeps only so many training samples, stratified where there are classes",
        ),
        Entry(
            "permute_labels",
            f"{_HOME}:PermuteLabels",
            "deals the training labels out anew: nothing is left to learn, all can be memorised",
            "yᵢ ← y_π(i), π a random permutation",
            "Zhang et al. 2017, Understanding deep learning requires rethinking generalization, section 2.1",
        ),
        Entry(
            "permute_inputs",
            f"{_HOME}:PermuteInputs",
            "one fixed permutation of the pixels or features, in all splits alike",
            "x_j ← x_π(j), π a random permutation",
            "Goodfellow et al. 2013, An empirical investigation of catastrophic forgetting, section 5",
        ),
    ],
    Entry,
    "trainoff.alterations",
)
