"""What changes a training batch before the module sees it: the base of input noise, cutout, mixup and CutMix."""

from __future__ import annotations

import functools
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
        """Put itself before ``training_step``."""
        if "training_step" not in vars(pl_module):
            step = functools.partial(_step_on_changed, pl_module)
            step.__wrapped__ = type(pl_module).training_step  # type: ignore[attr-defined]  # Lightning reads its signature
            pl_module.training_step = step  # type: ignore[method-assign]

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
        given, changed = vars(pl_module).get("changed_batch", (None, None))
        present = changed if given is batch else batch
        if not isinstance(present, (tuple, list)) or len(present) < 2 or not all(map(torch.is_tensor, present[:2])):
            raise UserError("needs batches of (inputs, targets)", type(self).__name__)
        inputs, targets, *others = present
        classes = None if targets.is_floating_point() else _classes(trainer, pl_module)
        with torch.no_grad():
            made = [*self.change(inputs, targets, classes), *others]
        container = type(present)
        new = container(*made) if hasattr(present, "_fields") else container(made)  # type: ignore[call-arg]
        vars(pl_module)["changed_batch"] = (batch, new)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the module as it was."""
        _restore(pl_module)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave the module as it was."""
        _restore(pl_module)


def _step_on_changed(module: L.LightningModule, batch: Any, *args: Any, **kwargs: Any) -> Any:
    given, changed = vars(module).get("changed_batch", (None, None))
    return type(module).training_step(module, changed if given is batch else batch, *args, **kwargs)


def _restore(module: L.LightningModule) -> None:
    vars(module).pop("changed_batch", None)
    if isinstance(vars(module).get("training_step"), functools.partial):
        del vars(module)["training_step"]


def _classes(trainer: L.Trainer, module: L.LightningModule) -> int | None:
    datamodule = getattr(trainer, "datamodule", None)
    hparams: Mapping[str, Any] = module.hparams
    found = getattr(datamodule, "num_classes", None) or hparams.get("output_size") or hparams.get("num_classes")
    return int(found) if found else None


def refuse_hard_targets(trainer: L.Trainer, module: L.LightningModule, name: str, classes: int | None) -> None:
    """Raise :class:`UserError` where class numbers cannot become shares of classes.

    Args:
        trainer: Whose DataModule may say the number of classes.
        module: Whose loss has to take shares.
        name: The regularizer's, for the message.
        classes: The number of classes, where the recipe says it.
    """
    regression = getattr(getattr(trainer, "datamodule", None), "task", "") == "regression"
    if regression:
        return
    if not any(isinstance(part, nn.CrossEntropyLoss) for part in module.modules()):
        raise UserError(
            f"{type(module).__name__} has no nn.CrossEntropyLoss, which takes shares of classes as targets; keep its "
            "loss as a submodule",
            name,
        )
    if classes is None and _classes(trainer, module) is None:
        raise UserError("the number of classes is not known; give num_classes", name)


def mix_targets(targets: Tensor, partners: Tensor, share: float, classes: int | None) -> Tensor:
    """``share`` of the targets and the rest of the partners', as floats; class numbers become shares of classes."""
    if not targets.is_floating_point():
        assert classes is not None  # refused at the start
        targets, partners = F.one_hot(targets, classes).float(), F.one_hot(partners, classes).float()
    return torch.lerp(partners, targets, share)
