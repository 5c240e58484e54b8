"""Penalties on the weights: J(θ) = J₀(θ) + λ‖θ‖ₚᵖ over all trainable parameters."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import ClassVar

import lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer

from trainoff.errors import UserError
from trainoff.modules.regularizers.base import Phase, Regularizer, named_optimizer_parameters
from trainoff.modules.sharded_tensors import alike


class Lp(Regularizer):
    """The penalty λ‖θ‖ₚᵖ, added to the gradient as λ·p·|θ|ᵖ⁻¹·sign(θ) before each step.

    It covers every trainable parameter, biases too, as the formula says. With p = 1 the subgradient at 0 is 0.

    Args:
        coefficient: λ, from 0.
        p: The power, from 1.
        exclude: Shell patterns of parameter names that the penalty leaves out (``["*.bias"]``).

    Raises:
        UserError: For a negative coefficient, or a power below 1.
    """

    phase: ClassVar[Phase] = Phase.GRADIENT

    def __init__(self, coefficient: float = 1e-4, p: float = 2.0, exclude: Sequence[str] = ()) -> None:
        super().__init__()
        if coefficient < 0:
            raise UserError(f"a penalty's coefficient is at least 0, not {coefficient}", "coefficient")
        if p < 1:
            raise UserError(f"the power is at least 1, not {p}: below, the gradient at 0 is infinite", "p")
        self.coefficient = coefficient
        self.p = p
        self.exclude = list(exclude)
        self._kinds: list[list[Tensor]] = []  # sharded parameters apart from plain ones
        self._of_optimizer: int | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look the parameters up anew: an earlier fit's optimizer is gone, and its identity may come again."""
        self._of_optimizer = None

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Add the penalty's gradient; runs at every gradient evaluation, before clipping."""
        if not self.coefficient:
            return
        for parameters in self._penalised(pl_module, optimizer):
            for parameter in parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            self.add_gradient(parameters, [parameter.grad for parameter in parameters if parameter.grad is not None])

    @torch.no_grad()
    def add_gradient(self, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        """Add λ·p·|θ|ᵖ⁻¹·sign(θ) to the gradients in place, all tensors in a few kernels."""
        if self.p == 2:
            torch._foreach_add_(gradients, parameters, alpha=2 * self.coefficient)
            return
        signs = torch._foreach_sign(parameters)
        if self.p == 1:
            torch._foreach_add_(gradients, signs, alpha=self.coefficient)
            return
        slopes = torch._foreach_abs(parameters)
        torch._foreach_pow_(slopes, self.p - 1)
        torch._foreach_mul_(slopes, signs)
        torch._foreach_add_(gradients, slopes, alpha=self.coefficient * self.p)

    def _penalised(self, module: L.LightningModule, optimizer: Optimizer) -> list[list[Tensor]]:
        # Names are looked up once per optimizer, not once per step.
        if self._of_optimizer != id(optimizer):
            self._of_optimizer = id(optimizer)
            found: list[Tensor] = [
                parameter
                for name, parameter in named_optimizer_parameters(module, optimizer)
                if parameter.requires_grad and not any(fnmatchcase(name, pattern) for pattern in self.exclude)
            ]
            self._kinds = [[found[place] for place in places] for places in alike(found)]
        return self._kinds


class L1(Lp):
    """The penalty λ‖θ‖₁, whose gradient is λ·sign(θ).

    Args:
        coefficient: λ, from 0.
        exclude: Shell patterns of parameter names that the penalty leaves out.
    """

    def __init__(self, coefficient: float = 1e-4, exclude: Sequence[str] = ()) -> None:
        super().__init__(coefficient, 1.0, exclude)


class L2(Lp):
    """The penalty λ‖θ‖₂², whose gradient is 2λθ: under SGD equal to torch's ``weight_decay=2λ``.

    Args:
        coefficient: λ, from 0.
        exclude: Shell patterns of parameter names that the penalty leaves out.
    """

    def __init__(self, coefficient: float = 1e-4, exclude: Sequence[str] = ()) -> None:
        super().__init__(coefficient, 2.0, exclude)


class ElasticNet(Lp):
    """The penalty λ(r‖θ‖₁ + (1 − r)‖θ‖₂²), whose gradient is λ(r·sign(θ) + 2(1 − r)θ) (Zou & Hastie 2005).

    Args:
        coefficient: λ, from 0.
        ratio: r, the share of the 1-norm, in [0, 1].
        exclude: Shell patterns of parameter names that the penalty leaves out.

    Raises:
        UserError: For a share outside [0, 1].
    """

    def __init__(self, coefficient: float = 1e-4, ratio: float = 0.5, exclude: Sequence[str] = ()) -> None:
        super().__init__(coefficient, 2.0, exclude)
        if not 0 <= ratio <= 1:
            raise UserError(f"the share of the 1-norm lies in [0, 1], not {ratio}", "ratio")
        self.ratio = ratio

    @torch.no_grad()
    def add_gradient(self, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        """Add both gradients in place, all tensors in a few kernels."""
        torch._foreach_add_(gradients, torch._foreach_sign(parameters), alpha=self.coefficient * self.ratio)
        torch._foreach_add_(gradients, parameters, alpha=2 * self.coefficient * (1 - self.ratio))
