"""What changes a training batch before the module sees it: the base of input noise, cutout, mixup and CutMix."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.regularizers.base import Phase, Regularizer
from trainoff.modules.regularizers.training_step import (
    leave_step,
    like_batch,
    parts_of,
    present_batch,
    replace_batch,
    stand_before,
)
from trainoff.modules.token_module import TokenModule
from trainoff.seeds import derive_seed


class BatchAugmentation(Regularizer):
    """Gives ``training_step`` another batch, made of new tensors: the given ones may be slices of the data set.

    Works with batches of inputs and targets in a tuple or a list, whatever comes after them. A batch is changed once,
    also where the optimizer evaluates it several times. The random numbers come from a generator of its own, which
    depends on the global seed and the epoch alone. (``on_after_batch_transfer``, Lightning's hook for this, is not
    called on the module where the DataModule has one too.)
    """

    phase: ClassVar[Phase] = Phase.BATCH

    def __init__(self) -> None:
        super().__init__()
        self._random = np.random.default_rng(0)

    @abstractmethod
    def change(self, inputs: Tensor, targets: Tensor, classes: int | None) -> tuple[Tensor, Tensor]:
        """New inputs and targets.

        Args:
            inputs: (batch, ...); not to be changed in place.
            targets: (batch, ...); likewise.
            classes: Number of classes, where the targets are class numbers and it is known.
        """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put itself before ``training_step``.

        Raises:
            UserError: For a module that reads token numbers, between which there is nothing.
        """
        if isinstance(pl_module, TokenModule):
            what = getattr(self, "name", re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower())
            raise UserError(f"changes numbers; what a {type(pl_module).__name__} reads are token numbers", what)
        stand_before(pl_module)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Seed the epoch's numbers."""
        words = ("augmentation", type(self).__name__, trainer.current_epoch, trainer.global_rank)
        self._random = np.random.default_rng(derive_seed(torch.initial_seed(), *words))

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Change the batch, or what another augmentation has made of it.

        Raises:
            UserError: For a batch that is not inputs and targets.
        """
        present = present_batch(pl_module, batch)
        inputs, targets, *others = parts_of(present, type(self).__name__)
        classes = None if targets.is_floating_point() else _classes(trainer, pl_module)
        with torch.no_grad():
            made = [*self.change(inputs, targets, classes), *others]
        replace_batch(pl_module, batch, like_batch(present, made))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the module as it was."""
        leave_step(pl_module)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave the module as it was."""
        leave_step(pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The generator's state: a training resumed within an epoch draws on."""
        return {"random": self._random.bit_generator.state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Draw on from there."""
        self._random.bit_generator.state = state_dict["random"]


def _classes(trainer: L.Trainer, module: L.LightningModule) -> int | None:
    datamodule = getattr(trainer, "datamodule", None)
    hparams: Mapping[str, Any] = module.hparams
    found = getattr(datamodule, "num_classes", None) or hparams.get("output_size") or hparams.get("num_classes")
    return int(found) if found else None


class PairMixing(BatchAugmentation):
    """Mixes each sample with another one of its batch, and their targets alike.

    Args:
        alpha: Of the Beta distribution that the shares are drawn from, above 0.
        num_classes: Where neither the DataModule nor the module's hyperparameters say it.

    Raises:
        UserError: For an α that is not positive.
    """

    name: ClassVar[str]  # among the regularizers, for messages

    def __init__(self, alpha: float, num_classes: int | None) -> None:
        super().__init__()
        if alpha <= 0:
            raise UserError(f"alpha is above 0, not {alpha}", "alpha")
        self.alpha = alpha
        self.num_classes = num_classes

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse a module whose targets cannot be shares of classes; those of a regression are numbers anyway.

        Raises:
            UserError: Where the loss takes no shares, or the number of classes is not known.
        """
        if getattr(getattr(trainer, "datamodule", None), "task", "") == "regression":
            return
        if not any(isinstance(part, nn.CrossEntropyLoss) for part in pl_module.modules()):
            raise UserError(
                f"{type(pl_module).__name__} has no nn.CrossEntropyLoss, which takes shares of classes as targets; "
                "keep its loss as a submodule",
                self.name,
            )
        if self.num_classes is None and _classes(trainer, pl_module) is None:
            raise UserError("the number of classes is not known; give num_classes", self.name)


def mix_targets(targets: Tensor, partners: Tensor, share: float, classes: int | None) -> Tensor:
    """``share`` of the targets and the rest of the partners', as floats; class numbers become shares of classes."""
    if not targets.is_floating_point():
        assert classes is not None  # refused at the start
        targets, partners = F.one_hot(targets, classes).float(), F.one_hot(partners, classes).float()
    return torch.lerp(partners, targets, share)
