"""Decoupled weight decay for any optimizer."""

from __future__ import annotations

from typing import ClassVar

import lightning as L
import torch
from torch.optim import Optimizer

from trainoff.errors import UserError
from trainoff.modules.parameter_groups import OWN_DECAY, undecayed_names
from trainoff.modules.regularizers.base import Phase, Regularizer
from trainoff.modules.sharded_tensors import alike


class WeightDecay(Regularizer):
    """θ ← (1 − lr·λ)θ just before each step, apart from the gradient (Loshchilov & Hutter 2019, algorithm 2).

    Biases, norms and embeddings are left out. Under an optimizer that has decoupled decay of its own (adamw), a
    recipe hands the coefficient to it instead. A closure optimizer evaluates several times a step and is refused.

    Args:
        coefficient: λ, from 0.

    Raises:
        UserError: For a negative coefficient.
    """

    phase: ClassVar[Phase] = Phase.STEP

    def __init__(self, coefficient: float = 1e-2) -> None:
        super().__init__()
        if coefficient < 0:
            raise UserError(f"weight decay is at least 0, not {coefficient}", "coefficient")
        self.coefficient = coefficient
        self._spared: set[int] = set()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note who is spared, and refuse an optimizer that would shrink the weights several times a step.

        Raises:
            UserError: For lbfgs, and for the SAM kind around an optimizer without a decoupled decay of its own.
        """
        names = undecayed_names(pl_module)
        self._spared = {id(parameter) for name, parameter in pl_module.named_parameters() if name in names}
        for optimizer in trainer.optimizers:
            if isinstance(optimizer, torch.optim.LBFGS) or getattr(optimizer, "evaluations", 1) > 1:
                name = type(optimizer).__name__.lower()
                raise UserError(f"decay would act at each of {name}'s evaluations; use l2", "weight_decay")

    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Shrink the weights by each group's present learning rate, and by the coefficient that a pattern gave it."""
        for group in optimizer.param_groups:
            spared = () if OWN_DECAY in group else self._spared
            weights = [p for p in group["params"] if id(p) not in spared and p.grad is not None]
            for places in alike(weights):
                kept = 1 - group["lr"] * group.get(OWN_DECAY, self.coefficient)
                torch._foreach_mul_([weights[place] for place in places], kept)
