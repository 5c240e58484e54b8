"""What changes the value of the loss modules, in training only: the base of several regularizers."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, cast

import lightning as L
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from trainoff.errors import UserError
from trainoff.modules.regularizers.base import Phase, Regularizer


class ChangedLoss(Regularizer):
    """Acts at every loss of certain classes among the module's submodules, while a training batch is at work.

    Several on one loss act one after the other, in the order of the recipe's list.
    """

    phase: ClassVar[Phase] = Phase.LOSS
    losses: ClassVar[tuple[type[nn.Module], ...]] = (nn.CrossEntropyLoss,)
    name: ClassVar[str]  # among the regularizers, for messages

    def __init__(self) -> None:
        super().__init__()
        self._hooks: list[RemovableHandle] = []
        self._is_training = False

    @abstractmethod
    def changed(self, loss: nn.Module, inputs: tuple[Tensor, ...], value: Tensor) -> Tensor:
        """The new value.

        Args:
            loss: The loss module.
            inputs: What it was called with: outputs and targets.
            value: What it returned, or what another regularizer has made of it.
        """

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Attach to the losses.

        Raises:
            UserError: Where the module has no such loss.
        """
        found = [part for part in pl_module.modules() if isinstance(part, self.losses)]
        if not found:
            wanted = " or ".join(f"nn.{kind.__name__}" for kind in self.losses)
            raise UserError(
                f"{type(pl_module).__name__} has no {wanted} to act on; keep its loss as a submodule", self.name
            )
        for loss in found:
            self.check_loss(loss)
        self._hooks = [loss.register_forward_hook(self._called, with_kwargs=True) for loss in found]

    def check_loss(self, loss: nn.Module) -> None:
        """Raise :class:`UserError` for one that cannot be changed."""

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """From here on the losses are the training's."""
        self._is_training = True

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """From here on they are not."""
        self._is_training = False

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let go of the losses."""
        self._let_go()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Let go of the losses."""
        self._let_go()

    def _let_go(self) -> None:
        self._is_training = False
        while self._hooks:
            self._hooks.pop().remove()

    def _called(self, loss: nn.Module, given: tuple[Tensor, ...], named: dict[str, Tensor], value: Tensor) -> Tensor:
        if not self._is_training:
            return value
        inputs = (*given, *(named[key] for key in ("input", "target") if key in named))
        return self.changed(loss, inputs, value)


def mean_of_counted(values: Tensor, loss: nn.Module, targets: Tensor) -> Tensor:
    """The mean of (batch, ...) over the places whose target the cross-entropy does not ignore."""
    if targets.shape != values.shape:  # shares of classes, of which none is ignored
        return values.mean()
    counts = (targets != cast(int, loss.ignore_index)).to(values.dtype)
    return (values * counts).sum() / counts.sum()
