"""What some optimizers need beyond gradients and ``step()``, brought into the form that Lightning's loop has.

Lightning hands every optimizer a closure that computes loss and gradients, and calls ``step`` once a batch.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer

from trainoff.modules.regularizers.base import RecipeCallback


class MatricesAndRest(Optimizer):
    """Two optimizers as one: the first for hidden matrices, the second for all other parameters.

    Groups and state are shared with the two, so that schedules, clipping and checkpoints see one optimizer.

    Args:
        matrices: Such as ``torch.optim.Muon``.
        rest: Such as ``torch.optim.AdamW``.
    """

    def __init__(self, matrices: Optimizer, rest: Optimizer) -> None:
        super().__init__([*matrices.param_groups, *rest.param_groups], {})
        self.parts = (matrices, rest)
        self._share()

    def _share(self) -> None:
        first = len(self.parts[0].param_groups)
        for part, groups in zip(self.parts, (self.param_groups[:first], self.param_groups[first:]), strict=True):
            part.param_groups = groups
            part.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore both; torch makes new groups and a new state, which the two then share again."""
        super().load_state_dict(state_dict)
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step of both, from one evaluation."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss


@functools.cache
def with_gradient_first(optimizer_class: type[Optimizer]) -> type[Optimizer]:
    """A subclass for optimizers of the SAM kind, which want gradients to be there before ``step(closure)``.

    Its step evaluates the closure at the present weights, then lets the optimizer evaluate it again where it wants.
    """

    class GradientFirst(optimizer_class):  # type: ignore[misc, valid-type]
        evaluations = 2  # a step, at least

        def step(self, closure: Callable[[], Any]) -> Any:
            with torch.enable_grad():
                loss = closure()
            super().step(closure)
            return loss

    GradientFirst.__name__ = GradientFirst.__qualname__ = optimizer_class.__name__
    return GradientFirst


def backward_with_graph(module: L.LightningModule, loss: Tensor, *args: Any, **kwargs: Any) -> None:
    """Lightning's hook ``backward`` for optimizers that differentiate the gradients once more (AdaHessian, Sophia)."""
    with warnings.catch_warnings():
        # The cycle between parameters and gradients ends when Lightning sets the gradients to None before the next.
        warnings.filterwarnings("ignore", message="Using backward\\(\\) with create_graph=True")
        loss.backward(*args, **{**kwargs, "create_graph": True})


class OptimizerModes(RecipeCallback):
    """Switches an optimizer of the schedule-free kind between its training and its evaluation weights.

    The training weights are in the module from a batch's start until something else than training comes: a
    validation, an epoch's end, a checkpoint, the end. Checkpoints hold the evaluation weights (Defazio et al. 2024,
    The road less scheduled).
    """

    def __init__(self) -> None:
        super().__init__()
        self._optimizers: list[Any] = []

    def _evaluation_weights(self) -> None:
        for optimizer in self._optimizers:
            if any(optimizer.state.values()):  # before the first step there is but one kind of weights
                optimizer.eval()

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remember the optimizers, which a checkpoint has just been loaded into."""
        self._optimizers = list(trainer.optimizers)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Training weights; nothing to do where they are there already."""
        for optimizer in self._optimizers:
            optimizer.train()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """For a checkpoint of weights only, Lightning asks no callback for its state: be ready at each batch."""
        if any(getattr(callback, "save_weights_only", False) for callback in trainer.checkpoint_callbacks):
            self._evaluation_weights()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluation weights."""
        self._evaluation_weights()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluation weights, also for checkpoints made now."""
        self._evaluation_weights()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluation weights, for good."""
        self._evaluation_weights()

    def state_dict(self) -> dict[str, Any]:
        """Nothing to keep, but a checkpoint is being made: Lightning asks before it reads the optimizers' states.

        The module's weights are in the checkpoint by reference, so that they are the evaluation weights too.
        """
        self._evaluation_weights()
        return {}
