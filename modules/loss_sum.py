"""The mean training loss of an epoch, without a look at the device before its end."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.utilities.data import extract_batch_size
from torch import Tensor


class LossSum:
    """A sum over terms that stays on the device: a torchmetrics metric, or a buffer, costs several times as much
    at each step.
    """

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._terms: Tensor | int = 0

    def add(self, loss: Tensor, terms: Tensor | int) -> None:
        """Add the mean loss of so many terms: of samples, or of tokens."""
        self._sum = loss * terms if self._sum is None else self._sum + loss * terms
        self._terms = self._terms + terms

    def mean(self) -> Tensor | None:
        """The mean over all terms so far; ``None`` where there were none."""
        return None if self._sum is None else self._sum / self._terms

    def state_dict(self) -> dict[str, Any]:
        """What has been added up so far."""
        return {"sum": self._sum, "terms": self._terms}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._sum, self._terms = state_dict["sum"], state_dict["terms"]


def terms_of(module: L.LightningModule, batch: Any) -> Tensor | int:
    """The number of terms whose mean a batch's loss is.

    What the module's ``batch_terms(batch)`` says, where it has such a method: tokens without padding, for instance,
    in a tensor that stays on the device. Else the number of samples.
    """
    own = getattr(module, "batch_terms", None)
    return extract_batch_size(batch) if own is None else own(batch)  # type: ignore[no-any-return]
