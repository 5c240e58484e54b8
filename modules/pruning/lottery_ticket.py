"""Lottery tickets: train, prune, rewind what is left to its early weights, and train again."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch

from trainoff.errors import UserError
from trainoff.modules.pruning.base import Pruning, check_share
from trainoff.modules.pruning.criteria import Scope, check_scope, keep_highest


class LotteryTicket(Pruning):
    """Iterative magnitude pruning with rewinding (Frankle & Carbin 2019, section 1; Frankle et al. 2020 for k > 0).

    The training is divided into ``rounds + 1`` equal parts. At the end of each but the last the smallest weights go,
    so that a share (1 − s)^(i/rounds) is left after round i, and parameters, buffers and the optimizer's state return
    to what they were at step k of the first part. The last part trains the ticket. All parts share one budget; a
    schedule of the learning rate runs once over all of them (``cosine_restarts`` can begin anew with each).

    Args:
        sparsity: s, share that is pruned in the end, in [0, 1).
        rounds: How many times it is pruned, from 1.
        rewind: k as a share of a part's steps, in [0, 1); 0 for the initial weights.
        scope: ``global`` ranks all layers together, ``local`` each by itself.
        exclude: Shell patterns of parameter names that are not pruned. Biases, norms and embeddings never are.

    Raises:
        UserError: For numbers out of range, or an unknown scope.
    """

    def __init__(
        self,
        sparsity: float = 0.8,
        rounds: int = 3,
        rewind: float = 0.0,
        scope: Scope = "global",
        exclude: Sequence[str] = (),
    ) -> None:
        super().__init__(exclude)
        if rounds < 1:
            raise UserError(f"there is at least one round, not {rounds}", "rounds")
        self.sparsity = check_share(sparsity, "sparsity")
        self.rounds = rounds
        self.rewind = check_share(rewind, "rewind")
        self.scope = check_scope(scope)

    def _forget(self) -> None:
        super()._forget()
        self._rounds_done = 0
        self._early: dict[str, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the length.

        Raises:
            UserError: Where a part would have no step.
        """
        super().on_train_start(trainer, pl_module)
        self.refuse_fewer_steps(trainer, self.rounds + 1)

    def before_step(self, trainer: L.Trainer, module: L.LightningModule, step: int) -> None:
        """Remember the early weights, or prune and return to them."""
        part = self._total_steps / (self.rounds + 1)
        if not self._early and step >= int(self.rewind * part):
            self._early = {
                "module": {name: value.detach().clone() for name, value in _values_of(module).items()},
                "optimizers": [copy.deepcopy(optimizer.state_dict()) for optimizer in trainer.optimizers],
            }
        due = min(self.rounds, int(step / part))
        if due > self._rounds_done:
            self._rounds_done = due
            self._prune(trainer)
            self.is_done = due == self.rounds

    @torch.no_grad()
    def _prune(self, trainer: L.Trainer) -> None:
        share = 1 - (1 - self.sparsity) ** (self._rounds_done / self.rounds)
        sizes = {name: weight.detach().abs() for name, weight in self._weights.items()}
        masks = keep_highest(sizes, share, self.scope, self._masks)
        for name, value in _values_of(trainer.lightning_module).items():
            value.data.copy_(self._early["module"][name])
        for optimizer, state in zip(trainer.optimizers, self._early["optimizers"], strict=True):
            rates = [group["lr"] for group in optimizer.param_groups]
            optimizer.load_state_dict(copy.deepcopy(state))
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate  # the schedule's, which goes on
        self.set_masks(trainer, masks)

    def state_dict(self) -> dict[str, Any]:
        """The early weights, too."""
        return {**super().state_dict(), "rounds_done": self._rounds_done, "early": self._early}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        super().load_state_dict(state_dict)
        self._rounds_done, self._early = state_dict["rounds_done"], state_dict["early"]


def _values_of(module: L.LightningModule) -> dict[str, torch.Tensor]:
    """Parameters and buffers; what metrics hold is theirs."""
    return {**dict(module.named_parameters()), **{n: b for n, b in module.named_buffers() if b is not None}}
