"""Averages of the weights, evaluated in place of the last ones: exponential (EMA) and stochastic (SWA)."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import nn
from torch.optim.swa_utils import update_bn

from trainoff.errors import UserError
from trainoff.modules.regularizers.base import Phase, Regularizer
from trainoff.modules.regularizers.training_data import training_batches


class AveragedWeights(Regularizer, WeightAveraging):  # type: ignore[misc]
    """Lightning's ``WeightAveraging``, confined to the own module and to what has been averaged so far.

    During fit, validation sees the average from its start to its end, checkpoints hold both, and the module ends with
    the average. Until the first update there is no average: validation sees the weights themselves.

    Batch norm's statistics belong to the weights that made them: before each validation of an average they are taken
    anew, in one pass over the training data (``update_bn`` of torch; Izmailov et al. 2018, section 3.2), where the
    module has such norms and a ``forward``. Other buffers, and those of a module without ``forward``, are averaged
    like weights.
    """

    phase: ClassVar[Phase] = Phase.AVERAGING

    def __init__(self) -> None:
        WeightAveraging.__init__(self, multi_avg_fn=self.blend)
        self._updates = 0
        self._renewed_at = 0  # number of updates of the average whose statistics are there
        self._is_swapped = False

    def blend(self, averaged: Any, current: Any, count: Any) -> None:
        """Move the averages towards the present values, in place.

        Args:
            averaged: Tensors of one type; parameters and buffers come in turn.
            current: The present values.
            count: Updates so far, on the device: reading it would wait, so the callback counts for itself.
        """
        share = self.share_of_present(self._updates)
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, share)
        else:  # counts, such as batch norm's number of batches: the present one
            torch._foreach_copy_(averaged, current)

    @abstractmethod
    def share_of_present(self, updates: int) -> float:
        """The weight of the present values, after so many updates."""

    # The hooks are repeated here so that they are confined to the own module, as every hook of a recipe's callback is.
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Make the copy that will hold the average."""
        if stage == "fit":
            self._updates = self._renewed_at = 0
            WeightAveraging.setup(self, trainer, pl_module, stage)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the copy where the strategy has put the module, in its precision."""
        if self._average_model is not None:
            self._average_model.to(pl_module.device, cast(torch.dtype, pl_module.dtype))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update where the step is one to average."""
        before = self._latest_update_step
        WeightAveraging.on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx)
        self._updates += self._latest_update_step > before

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Nothing: an update now would come after the epoch's validation."""

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the average in place, during fit; afterwards the module has it, or whatever its owner has loaded."""
        if trainer.state.fn == "fit" and self._updates:
            self._leave_others(pl_module)
            self._swap_models(pl_module)
            self._is_swapped = True
            self._renew_statistics(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave it there: what looks at the module when validation ends is to see what was validated."""

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the weights back that training goes on with."""
        if self._is_swapped:
            self._swap_models(pl_module)
            self._is_swapped = False

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the module with the average."""
        if self._updates:
            self._leave_others(pl_module)
            WeightAveraging.on_train_end(self, trainer, pl_module)
            self._renew_statistics(trainer, pl_module)

    def _renew_statistics(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Batch norm's statistics under the average that is in the module now, once for each average."""
        averaged = self.part_of(module)
        has_forward = type(averaged).forward is not L.LightningModule.forward
        if self._renewed_at == self._updates or not (has_forward and _tracks_statistics(averaged)):
            return
        batches = training_batches(trainer, module)
        if self.part is not None:  # which the module feeds with something else than batches of data
            batches = cast(Any, module).inputs_of(self.part, batches)
        self._renewed_at = self._updates
        # What a loader draws, or dropout, is not to change the training that goes on.
        with torch.random.fork_rng(), trainer.precision_plugin.forward_context():
            update_bn(batches, averaged, module.device)

    @torch.no_grad()
    def _leave_others(self, module: L.LightningModule) -> None:
        """Beside the part that is averaged, what would be put in the weights' place are the weights themselves."""
        if self.part is None or self._average_model is None:
            return
        averages = self._average_model.module.state_dict()
        for name, present in module.state_dict().items():
            if not name.startswith(f"{self.part}."):
                averages[name].copy_(present)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the average as the state, and the weights that training goes on with beside it."""
        if self._updates:
            self._leave_others(pl_module)
            WeightAveraging.on_save_checkpoint(self, trainer, pl_module, checkpoint)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore both."""
        if self._average_model is not None and "averaging_state" in checkpoint:
            WeightAveraging.on_load_checkpoint(self, trainer, pl_module, checkpoint)

    def state_dict(self) -> dict[str, Any]:
        """How far the average is."""
        return {"latest_update_step": self._latest_update_step, "updates": self._updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore that."""
        self._latest_update_step = state_dict["latest_update_step"]
        self._updates = state_dict["updates"]


def _tracks_statistics(module: nn.Module) -> bool:
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    return any(isinstance(part, norms) and part.track_running_stats for part in module.modules())


class EMA(AveragedWeights):
    """Exponential moving average: θ̄ ← dθ̄ + (1 − d)θ after each step (Polyak & Juditsky 1992).

    The decay warms up as min(decay, (1 + n)/(10 + n)) after n updates, so that a short training's average is not that
    of its first steps.

    Args:
        decay: d, in [0, 1).

    Raises:
        UserError: For a decay outside [0, 1).
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise UserError(f"a decay lies in [0, 1), not {decay}", "decay")
        super().__init__()
        self.decay = decay

    def share_of_present(self, updates: int) -> float:
        """1 − d."""
        return 1 - min(self.decay, (1 + updates) / (10 + updates))


class SWA(AveragedWeights):
    """Stochastic weight averaging: the mean of the weights at the ends of the last epochs (Izmailov et al. 2018).

    The learning rate is the recipe's schedule; the paper's is constant while it averages.

    Args:
        start: Share of the epochs after which averaging begins, in [0, 1).

    Raises:
        UserError: For a share outside [0, 1).
    """

    def __init__(self, start: float = 0.75) -> None:
        if not 0 <= start < 1:
            raise UserError(f"the start is a share of the epochs in [0, 1), not {start}", "start")
        super().__init__()
        self.start = start
        self._first_epoch = 0
        self._ends_epoch = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find the first epoch to average.

        Raises:
            UserError: Where the Trainer does not say how many epochs there are.
        """
        if self.start and (trainer.max_epochs or -1) < 1:
            raise UserError("a share of the epochs needs their number: give the Trainer max_epochs", "swa")
        self._first_epoch = math.ceil(self.start * max(trainer.max_epochs or 0, 0))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update with an epoch's last step, from the first epoch on: validation comes next, and is to see it."""
        self._ends_epoch = trainer.is_last_batch and trainer.current_epoch >= self._first_epoch
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """At the last step of an epoch."""
        return step_idx is not None and self._ends_epoch

    def share_of_present(self, updates: int) -> float:
        """1/(n + 1), which makes the mean."""
        return 1 / (updates + 1)
