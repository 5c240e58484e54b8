"""The mean training loss of an epoch, without a look at the device before its end."""

from __future__ import annotations

from torch import Tensor


class LossSum:
    """A sum over samples that stays on the device: a torchmetrics metric, or a buffer, costs several times as much
    at each step.
    """

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._samples = 0

    def add(self, loss: Tensor, samples: int) -> None:
        """Add the mean loss of so many samples."""
        self._sum = loss * samples if self._sum is None else self._sum + loss * samples
        self._samples += samples

    def mean(self) -> Tensor | None:
        """The mean over all samples so far; ``None`` where there were none."""
        return None if self._sum is None else self._sum / self._samples
