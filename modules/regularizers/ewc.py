"""Elastic weight consolidation: what was learned earlier is not forgotten."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch import Tensor
from torch.optim import Optimizer

from trainoff.errors import UserError
from trainoff.modules.regularizers.base import Phase, Regularizer, named_optimizer_parameters
from trainoff.modules.regularizers.fisher import empirical_fisher

Anchors = dict[str, dict[str, Tensor]]  # "weights" θ* and "importance" F, each by parameter name


class EWC(Regularizer):
    """The penalty (λ/2) Σ Fᵢ(θᵢ − θ*ᵢ)², with θ* and F of the fits before (Kirkpatrick et al. 2017, eq. 3).

    At the end of each fit it keeps the weights θ* and the diagonal of the empirical Fisher information F on that
    fit's training data (:func:`trainoff.modules.regularizers.fisher.empirical_fisher`). The next fit of the same
    module, on other data, is anchored there; the first one has no penalty. After several fits F is the sum
    γF + F of the last one, and θ* the last weights (online EWC, Schwarz et al. 2018, section 2.3). Parameters that
    the earlier fits did not have, such as another head's, are free.

    Within one fit it does the same where a task ends, if the DataModule says so: by the methods
    ``finished_tasks(epoch)``, the number of tasks that are over when an epoch begins, and ``task_dataloader("train",
    task)``, the data of one, as :class:`trainoff.datamodules.TaskSequence` has them.

    In another process give the checkpoint that ``trainer.save_checkpoint`` wrote after the earlier fit, and load the
    weights from it as well. Resuming an interrupted fit (``ckpt_path``) keeps the anchors of that fit. (The processes
    of ``ddp_spawn`` end with their fit, and the anchors of that fit with them.)

    Args:
        coefficient: λ, from 0. Gradient descent needs lr·λ·F below 2 for the largest F, or it diverges.
        samples: Training samples that F is taken from, one backward pass each.
        decay: γ, the weight of the fits before the last one, in [0, 1].
        checkpoint: Path of a checkpoint of an earlier fit with ``ewc``.

    Raises:
        UserError: For numbers out of range.
    """

    phase: ClassVar[Phase] = Phase.GRADIENT

    def __init__(
        self, coefficient: float = 10.0, samples: int = 1000, decay: float = 1.0, checkpoint: str | None = None
    ) -> None:
        super().__init__()
        if coefficient < 0:
            raise UserError(f"a penalty's coefficient is at least 0, not {coefficient}", "coefficient")
        if samples < 1:
            raise UserError(f"F is taken from at least one sample, not {samples}", "samples")
        if not 0 <= decay <= 1:
            raise UserError(f"the weight of earlier fits lies in [0, 1], not {decay}", "decay")
        self.coefficient = coefficient
        self.samples = samples
        self.decay = decay
        self.checkpoint = None if checkpoint is None else str(checkpoint)
        self._present: Anchors = {}  # of the fits before this one
        self._next: Anchors = {}  # this one's too
        self._finished_tasks = 0  # of this fit, that the anchors know
        self._terms: tuple[int, list[Tensor], list[Tensor], list[Tensor]] | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the anchors of the fits before, on the module's device.

        Raises:
            UserError: Where the module, the strategy or the checkpoint does not allow it.
        """
        if not pl_module.automatic_optimization:
            raise UserError(f"{type(pl_module).__name__} optimizes by hand, so that it has no loss to read", "ewc")
        if isinstance(trainer.strategy, (FSDPStrategy, ModelParallelStrategy, DeepSpeedStrategy)):
            raise UserError(f"needs whole parameters, which {type(trainer.strategy).__name__} shards", "ewc")
        if trainer.ckpt_path is None:  # not a resumed fit
            self._present, self._next = self._next or self._from_checkpoint(), {}
            self._finished_tasks = 0
        self._present = {
            key: {name: tensor.to(pl_module.device) for name, tensor in tensors.items()}
            for key, tensors in self._present.items()
        }
        self._check_shapes(pl_module)
        self._terms = None

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Anchor the weights where a task of the DataModule's has come to its end."""
        datamodule = getattr(trainer, "datamodule", None)
        finished_tasks = getattr(datamodule, "finished_tasks", None)
        if finished_tasks is None or datamodule is None:
            return
        finished = finished_tasks(trainer.current_epoch)
        for task in range(self._finished_tasks, finished):
            self._present = self._anchors_of(trainer, pl_module, datamodule.task_dataloader("train", task))
            self._terms = None
        self._finished_tasks = max(self._finished_tasks, finished)

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Add the penalty's gradient λF(θ − θ*)."""
        if not self._present or not self.coefficient:
            return
        if self._terms is None or self._terms[0] != id(optimizer):
            self._terms = (id(optimizer), *self._anchored(pl_module, optimizer))
        _, parameters, weights, importance = self._terms
        if not parameters:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.add_gradient(parameters, weights, importance, [p.grad for p in parameters if p.grad is not None])

    @torch.no_grad()
    def add_gradient(
        self, parameters: list[Tensor], weights: list[Tensor], importance: list[Tensor], gradients: list[Tensor]
    ) -> None:
        """Add λF(θ − θ*) to the gradients in place, all tensors in a few kernels.

        Args:
            parameters: θ.
            weights: θ*.
            importance: F.
            gradients: Changed.
        """
        pulls = torch._foreach_sub(parameters, weights)
        torch._foreach_mul_(pulls, importance)
        torch._foreach_add_(gradients, pulls, alpha=self.coefficient)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep θ* and F; after all that changes the weights at the end of a training, such as an average."""
        datamodule = getattr(trainer, "datamodule", None)
        is_sequence = hasattr(datamodule, "finished_tasks")
        batches = datamodule.task_dataloader("train", self._finished_tasks) if is_sequence and datamodule else None
        self._next = self._anchors_of(trainer, pl_module, batches)

    def _anchors_of(self, trainer: L.Trainer, pl_module: L.LightningModule, batches: Iterable[Any] | None) -> Anchors:
        """θ* and F now, the earlier ones' among it; of the training data where no batches are given."""
        importance = empirical_fisher(trainer, pl_module, self.samples, batches)
        for name, before in self._present.get("importance", {}).items():
            importance[name] = self.decay * before + importance.get(name, 0)
        parameters = dict(pl_module.named_parameters())
        anchors = self._present.get("weights", {}) | {n: parameters[n].detach().clone() for n in importance}
        return {"weights": {name: anchors[name] for name in importance}, "importance": importance}

    def _anchored(
        self, module: L.LightningModule, optimizer: Optimizer
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        weights, importance = self._present["weights"], self._present["importance"]
        named = [(n, p) for n, p in named_optimizer_parameters(module, optimizer) if n in weights and p.requires_grad]
        return (
            [parameter for _, parameter in named],
            [weights[name].to(parameter.dtype) for name, parameter in named],
            [importance[name].to(parameter.dtype) for name, parameter in named],
        )

    def _check_shapes(self, module: L.LightningModule) -> None:
        parameters = dict(module.named_parameters())
        kept = self._present.get("weights", {})
        if kept and not kept.keys() & parameters.keys():
            raise UserError(f"no parameter of {type(module).__name__} is among those of the earlier fit", "ewc")
        for name, weights in kept.items():
            if name in parameters and parameters[name].shape != weights.shape:
                raise UserError(
                    f"'{name}' is {tuple(parameters[name].shape)}, in the earlier fit it was {tuple(weights.shape)}",
                    "ewc",
                )

    def _from_checkpoint(self) -> Anchors:
        if self.checkpoint is None:
            return {}
        where = "ewc.checkpoint"
        if not Path(self.checkpoint).is_file():
            raise UserError(f"there is no file {self.checkpoint}", where)
        try:
            states = torch.load(self.checkpoint, map_location="cpu", weights_only=True).get("callbacks", {})
        except (RuntimeError, AttributeError, EOFError, pickle.UnpicklingError) as error:
            raise UserError(f"{self.checkpoint} is no checkpoint that loads with weights_only=True", where) from error
        found = [state["next"] for key, state in states.items() if key.startswith(type(self).__qualname__)]
        if not found or not found[0]:
            raise UserError(
                f"{self.checkpoint} holds no finished fit with ewc; write it with trainer.save_checkpoint after fit",
                where,
            )
        anchors: Anchors = found[0]
        return anchors

    def state_dict(self) -> dict[str, Any]:
        """The anchors of this fit, and, once it is over, of the next."""
        return {"present": self._present, "next": self._next, "finished_tasks": self._finished_tasks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        self._present, self._next = state_dict["present"], state_dict["next"]
        self._finished_tasks = state_dict.get("finished_tasks", 0)
