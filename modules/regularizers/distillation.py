"""A teacher's softened outputs as targets beside the true ones."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.registry import MODULES
from trainoff.modules.regularizers.loss_hooks import ChangedLoss, mean_of_counted
from trainoff.modules.regularizers.training_step import parts_of, present_batch
from trainoff.registry import normalise


class Distillation(ChangedLoss):
    """Trains on (1 − α)·J + α·T²·KL(q ‖ p), with q and p the softmax of the teacher's and the student's logits over T.

    (Hinton, Vinyals & Dean 2015, section 2; T² keeps the size of the gradient whatever T is.) Acts at every
    ``nn.CrossEntropyLoss`` of the module, on logits (batch, classes, ...); a module without one, a regression for
    instance, is refused. Where a target is the loss's ``ignore_index`` nothing is added. The teacher sees what the
    module's own ``forward`` was called with, or the batch's inputs where it was not: once a batch, as augmentations or
    hidden tokens have made them, in evaluation mode; it is part neither of the student's checkpoint nor of its
    optimizer.

    Args:
        teacher: Path of a Lightning checkpoint.
        module: Whose checkpoint it is: a LightningModule by name (``trainoff list modules``) or class path; its
            ``load_from_checkpoint`` has to work with the path alone, its ``forward`` gives logits.
        alpha: α, the teacher's share, in [0, 1].
        temperature: T, above 0.

    Raises:
        UserError: For numbers out of range.
    """

    name: ClassVar[str] = "distillation"

    def __init__(self, teacher: str, module: str = "classifier", alpha: float = 0.5, temperature: float = 4.0) -> None:
        super().__init__()
        if not 0 <= alpha <= 1:
            raise UserError(f"the teacher's share lies in [0, 1], not {alpha}", "alpha")
        if temperature <= 0:
            raise UserError(f"the temperature is above 0, not {temperature}", "temperature")
        self.teacher = str(teacher)
        self.module = module
        self.alpha = alpha
        self.temperature = temperature
        self._teacher: nn.Module | None = None
        self._inputs: tuple[Tensor, ...] = ()
        self._logits: Tensor | None = None  # of the present batch; a closure may ask several times

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Attach to the losses, and load the teacher.

        Raises:
            UserError: Where there is no such loss, or no teacher at that path.
        """
        super().on_fit_start(trainer, pl_module)
        self._hooks.append(pl_module.register_forward_pre_hook(self._sees))
        like = next(parameter for parameter in pl_module.parameters() if parameter.is_floating_point())
        self._teacher = load_teacher(self.teacher, self.module).to(like.device, like.dtype)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember the inputs; the module's call of itself says it better, and comes later."""
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        self._inputs, self._logits = (parts_of(present_batch(pl_module, batch), self.name)[0],), None

    def _sees(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if self._is_training and all(
            isinstance(value, Tensor) for value in inputs
        ):  # not the step of a wrapped module
            self._inputs = inputs

    def changed(self, loss: nn.Module, inputs: tuple[Tensor, ...], value: Tensor) -> Tensor:
        """(1 − α)·J + α·T²·KL."""
        logits, teachers = inputs[0], self._soft()
        if logits.ndim == 2 and teachers.ndim == 3:  # of tokens, which the student has in a row
            teachers = teachers.flatten(0, 1)
        divergences = softened_divergences(logits, teachers, self.temperature)
        return (1 - self.alpha) * value + self.alpha * mean_of_counted(divergences, loss, inputs[1])

    @torch.no_grad()
    def _soft(self) -> Tensor:
        if self._logits is None:
            assert self._teacher is not None
            self._logits = self._teacher(*self._inputs)
        return self._logits

    def _let_go(self) -> None:
        super()._let_go()
        self._teacher = self._logits = None
        self._inputs = ()


def softened_divergences(logits: Tensor, teachers: Tensor, temperature: float) -> Tensor:
    """T²·KL(q ‖ p) of each sample (and position): (batch, ...).

    Args:
        logits: The student's, (batch, classes, ...).
        teachers: The teacher's, of the same shape.
        temperature: T.

    Raises:
        UserError: Where the shapes differ.
    """
    if logits.shape != teachers.shape:
        raise UserError(
            f"the student's outputs are {tuple(logits.shape)}, the teacher's {tuple(teachers.shape)}", "distillation"
        )
    student = F.log_softmax(logits / temperature, dim=1)
    teacher = F.log_softmax(teachers / temperature, dim=1)
    divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1)
    return temperature**2 * divergence


def load_teacher(path: str, module: str) -> L.LightningModule:
    """A frozen LightningModule in evaluation mode, from its checkpoint; global random numbers are left alone.

    Raises:
        UserError: Where there is no file, or it is not that module's checkpoint.
    """
    where = "distillation.teacher"
    factory = MODULES.load(normalise(module, "distillation.module"))
    if not Path(path).is_file():
        raise UserError(f"there is no file {path}; give the path of a Lightning checkpoint", where)
    try:
        with torch.random.fork_rng(devices=[]):
            teacher: L.LightningModule = factory.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    except UserError as error:
        raise UserError(error.message, where) from error
    except (RuntimeError, KeyError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{path} is no checkpoint of {module}: {reason}", where) from error
    if type(teacher).forward is L.LightningModule.forward:
        raise UserError(f"{type(teacher).__name__} has no forward that gives logits", "distillation.module")
    return teacher.requires_grad_(False).eval()
