"""Easy samples first."""

from __future__ import annotations

import copy
import math
from typing import Any, ClassVar, Literal

import lightning as L
from torch import Tensor, nn

from trainoff.errors import UserError
from trainoff.modules.regularizers.loss_hooks import ChangedLoss


class Curriculum(ChangedLoss):
    """Trains on the easiest share of each batch, a share that grows to all of it (Bengio et al. 2009).

    A sample is easy where its loss is small under the present weights, as in self-paced learning (Kumar, Packer &
    Koller 2010): an order known beforehand would need a place in the DataModule, and this works with anyone's. The
    loss is the mean over the ⌈s·n⌉ samples of least loss among the n of a batch (of each part, under
    ``microbatches``); the others are forwarded and left out. The share is, at step t of T and with u = ``until``,

    - ``linear``: s = s₀ + (1 − s₀)·min(1, t/(uT)),
    - ``root``: s = √(s₀² + (1 − s₀²)·min(1, t/(uT))) (Platanios et al. 2019, eq. 7).

    Acts at torch's losses that are means over samples, which the module keeps as submodules. What the module logs as
    its training loss is that of the admitted samples.

    Args:
        start: s₀, the share at the first step, in (0, 1].
        until: u, the share of the training after which all samples are admitted, in (0, 1].
        pacing: ``linear`` or ``root``.

    Raises:
        UserError: For values out of range.
    """

    name: ClassVar[str] = "curriculum"
    losses: ClassVar[tuple[type[nn.Module], ...]] = (
        nn.CrossEntropyLoss,
        nn.NLLLoss,
        nn.BCEWithLogitsLoss,
        nn.BCELoss,
        nn.MSELoss,
        nn.L1Loss,
        nn.SmoothL1Loss,
        nn.HuberLoss,
    )

    def __init__(self, start: float = 0.5, until: float = 0.5, pacing: Literal["linear", "root"] = "linear") -> None:
        super().__init__()
        if not 0 < start <= 1:
            raise UserError(f"the share at the first step lies in (0, 1], not {start}", "start")
        if not 0 < until <= 1:
            raise UserError(f"the share of the training lies in (0, 1], not {until}", "until")
        if pacing not in ("linear", "root"):
            raise UserError(f"the pacing is 'linear' or 'root', not '{pacing}'", "pacing")
        self.start = start
        self.until = until
        self.pacing = pacing
        self._total: float = math.inf
        self._share = start

    def share_at(self, step: int, total: float) -> float:
        """The share of samples admitted at a step, from 0, of so many."""
        done = min(1.0, step / (self.until * total))
        if self.pacing == "linear":
            return self.start + (1 - self.start) * done
        return math.sqrt(self.start**2 + (1 - self.start**2) * done)

    def check_loss(self, loss: nn.Module) -> None:
        """Refuse those that are no plain means over samples."""
        weighted = any(getattr(loss, name, None) is not None for name in ("weight", "pos_weight"))
        if weighted or loss.reduction != "mean":
            raise UserError(
                f"an nn.{type(loss).__name__} with {'weights' if weighted else f'reduction={loss.reduction!r}'} is no "
                "plain mean over samples",
                self.name,
            )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find the number of steps.

        Raises:
            UserError: Where the training has no end.
        """
        self._total = trainer.estimated_stepping_batches
        if not math.isfinite(self._total):
            raise UserError("needs an end: give the Trainer max_epochs or max_steps", self.name)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the share."""
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        self._share = self.share_at(trainer.global_step, self._total)

    def changed(self, loss: nn.Module, inputs: tuple[Tensor, ...], value: Tensor) -> Tensor:
        """The mean over the easy ones; added as a difference, so that what others have added to the loss stays."""
        if self._share >= 1:
            return value
        each = losses_of_samples(loss, inputs)
        if isinstance(loss, nn.CrossEntropyLoss) and inputs[1].shape == each.shape:
            each = each[inputs[1] != loss.ignore_index]
        easiest = each.topk(math.ceil(self._share * len(each)), largest=False).values
        return value + (easiest.mean() - each.mean())


def losses_of_samples(loss: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """What one of torch's losses is the mean of: (batch,), each the mean over a sample's outputs."""
    unreduced: Any = copy.copy(loss)
    unreduced.reduction = "none"
    each: Tensor = unreduced.forward(*inputs)  # not through the hooks
    return each.flatten(1).mean(1) if each.ndim > 1 else each
