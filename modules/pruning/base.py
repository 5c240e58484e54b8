"""What every pruning method is: a callback that keeps masks, and keeps pruned weights at zero."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch import Tensor, nn
from torch.optim import Optimizer

from trainoff.errors import UserError
from trainoff.modules.pruning.prunable_weights import prunable_weights
from trainoff.modules.regularizers.base import Phase, RecipeCallback

SHARDED = (FSDPStrategy, ModelParallelStrategy, DeepSpeedStrategy)


class Pruning(RecipeCallback):
    """Base of the pruning methods.

    The masks live in the callback, and in its part of a checkpoint; the module's parameters keep their names, and hold
    zero where a mask says so. A pruned weight gets no gradient, and is set to zero after each optimizer step, in the
    weights and in averages of them (EMA, SWA); the optimizer's state is set to zero there when the mask changes, so
    that no momentum is left. Masks change at the start of a step, after the validation that an epoch ends with.

    A subclass overrides :meth:`before_step`, and calls :meth:`set_masks` in it.

    Args:
        exclude: Shell patterns of parameter names that are not pruned. Biases, norms and embeddings never are.

    Attributes:
        masks: By parameter name; true where a weight is kept. Empty as long as nothing is pruned.
        pruned: How many times a weight was pruned.
        spliced: How many times a pruned weight came back.
    """

    phase: ClassVar[Phase] = Phase.PRUNING
    needs_total: ClassVar[bool] = True  # the number of steps, as shares of the training do
    in_training: ClassVar[bool] = True  # whether it changes weights while the net trains
    refused_needs: ClassVar[frozenset[str]] = frozenset()  # of optimizers, that do not go with the method
    refused_regularizers: ClassVar[frozenset[str]] = frozenset()  # likewise
    refusal: ClassVar[str] = ""  # and why

    def __init__(self, exclude: Sequence[str] = ()) -> None:
        super().__init__()
        self.exclude = [exclude] if isinstance(exclude, str) else list(exclude)
        self._forget()

    def _forget(self) -> None:
        self._masks: dict[str, Tensor] = {}
        self._weights: dict[str, nn.Parameter] = {}  # those that may be pruned
        self._parameters: dict[str, nn.Parameter] = {}  # all of them: a unit's bias has a mask too
        self._begun_step = -1
        self._ended_step = -1
        self._total_steps = 0
        self._is_done = False
        self._pruned = self._spliced = 0

    @property
    def masks(self) -> Mapping[str, Tensor]:
        """By parameter name; true where a weight is kept."""
        return dict(self._masks)

    @property
    def pruned(self) -> int:
        """How many times a weight was pruned, of those that do not follow another (a unit's bias does)."""
        return self._pruned

    @property
    def spliced(self) -> int:
        """How many times a pruned weight came back."""
        return self._spliced

    @property
    def is_done(self) -> bool:
        """Whether the masks are final: the states before that are not what the method was asked for."""
        return self._is_done

    @is_done.setter
    def is_done(self, value: bool) -> None:
        self._is_done = value  # no plain attribute: those make the state's key

    def before_step(self, trainer: L.Trainer, module: L.LightningModule, step: int) -> None:
        """Change the masks where it is time for it, before the forward pass of a step (from 0)."""

    def weights_of(self, module: L.LightningModule) -> dict[str, nn.Parameter]:
        """The weights that may be pruned, by name, in the module's order."""
        return prunable_weights(module, self.exclude)

    @torch.no_grad()
    def set_masks(self, trainer: L.Trainer, masks: Mapping[str, Tensor], counted: bool = True) -> None:
        """Take new masks, and act on them at once.

        Args:
            trainer: Whose module and optimizers.
            masks: By parameter name; true where a weight is kept.
            counted: Whether the change counts among those that are told.
        """
        for name, mask in masks.items() if counted else ():
            before = self._masks.get(name)
            if before is None:
                self._pruned += int((~mask).sum())
            else:
                self._pruned += int((before & ~mask).sum())
                self._spliced += int((~before & mask).sum())
        self._masks = dict(masks)
        self._apply(trainer)
        self._clear_state(trainer.optimizers)

    def refuse_fewer_steps(self, trainer: L.Trainer, parts: int) -> None:
        """Raise :class:`UserError` for a training with fewer steps than parts; a single step only tries the recipe."""
        is_trial = bool(trainer.fast_dev_run) or self._total_steps == 1  # type: ignore[attr-defined]
        if self._total_steps < parts and not is_trial:
            raise UserError(f"{self._total_steps} steps cannot be divided into {parts} parts", "pruning")

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Forget an earlier fit; a checkpoint's state comes after this.

        Raises:
            UserError: Under a strategy that shards the parameters.
        """
        if stage != "fit":
            return
        if isinstance(trainer.strategy, SHARDED):
            raise UserError(
                f"{type(trainer.strategy).__name__} shards the parameters, and pruning needs them whole; use ddp",
                "pruning",
            )
        self._forget()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look up the weights, and how long the training is.

        Raises:
            UserError: Where there is nothing to prune, or no end to take shares of.
        """
        self._weights = self.weights_of(pl_module)
        if not self._weights:
            raise UserError(f"{type(pl_module).__name__} has no weight that could be pruned", "pruning")
        total = trainer.estimated_stepping_batches
        if self.needs_total and not math.isfinite(total):
            raise UserError("shares of the training need its end: give the Trainer max_epochs or max_steps", "pruning")
        self._total_steps = int(total) if math.isfinite(total) else 0
        self._parameters = dict(pl_module.named_parameters())
        self._masks = {name: mask.to(self._parameters[name].device) for name, mask in self._masks.items()}
        self._apply(trainer)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Ask for new masks, once an optimizer step."""
        if trainer.global_step != self._begun_step:
            self._begun_step = trainer.global_step
            self.before_step(trainer, pl_module, trainer.global_step)

    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Take the pruned weights' gradients away."""
        if self._masks:
            pairs = [(p.grad, self._masks[name]) for name, p in self._masked() if p.grad is not None]
            _multiply(pairs)

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Set pruned weights to zero where a step was taken: decay, noise or averages may have moved them."""
        if trainer.global_step != self._ended_step:
            self._ended_step = trainer.global_step
            self._apply(trainer)

    @torch.no_grad()
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Once more: a callback of the user's may have put an average in the weights' place."""
        self._apply(trainer)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Let go of the parameters, so that a copy or a pickle of the module does not take them along twice."""
        self._weights, self._parameters = {}, {}

    def state_dict(self) -> dict[str, Any]:
        """The masks, and what was counted."""
        counts = {"pruned": self._pruned, "spliced": self._spliced, "is_done": self._is_done}
        return {"masks": {name: mask.clone() for name, mask in self._masks.items()}, **counts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        self._masks = dict(state_dict["masks"])
        self._pruned, self._spliced = state_dict["pruned"], state_dict["spliced"]
        self._is_done = state_dict["is_done"]

    def _masked(self) -> Iterable[tuple[str, nn.Parameter]]:
        return ((name, self._parameters[name]) for name in self._masks)

    def _apply(self, trainer: L.Trainer) -> None:
        if not self._masks:
            return
        _multiply([(weight.data, self._masks[name]) for name, weight in self._masked()])
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            average = getattr(callback, "_average_model", None) if isinstance(callback, WeightAveraging) else None
            if average is not None:
                averaged = dict(average.module.named_parameters())
                _multiply([(averaged[name].data, mask) for name, mask in self._masks.items()])

    def _clear_state(self, optimizers: Iterable[Any]) -> None:
        """What an optimizer remembers of pruned weights, also inside one that wraps another."""
        for optimizer in optimizers:
            if isinstance(optimizer, torch.optim.LBFGS):  # its history is of directions that are no more
                optimizer.state.clear()
                continue
            for name, mask in self._masks.items():
                for value in optimizer.state.get(self._parameters[name], {}).values():
                    if isinstance(value, Tensor) and value.shape == mask.shape and value.is_floating_point():
                        value.mul_(mask)
            inner = [getattr(optimizer, key, None) for key in ("optimizer", "base_optimizer")]
            self._clear_state([each for each in inner if isinstance(each, Optimizer)])


def _multiply(pairs: Sequence[tuple[Any, Tensor]]) -> None:
    if pairs:
        torch._foreach_mul_([tensor for tensor, _ in pairs], [mask for _, mask in pairs])


def check_share(value: float, where: str) -> float:
    """A share in [0, 1), or :class:`UserError`."""
    if not 0 <= value < 1:
        raise UserError(f"a share lies in [0, 1), not {value}", where)
    return value


def pruning_of(module: nn.Module) -> Pruning | None:
    """The pruning callback that the module's recipe brought, where it brought one."""
    found = [callback for callback in vars(module).get("recipe_callbacks", ()) if isinstance(callback, Pruning)]
    return found[0] if found else None
