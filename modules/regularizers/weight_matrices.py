"""Penalties on weights as matrices: how far from orthonormal, and how large their largest singular value."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainoff.errors import UserError
from trainoff.modules.regularizers.base import Phase, Regularizer, named_optimizer_parameters


class MatrixPenalty(Regularizer):
    """Adds the gradient of a penalty on each weight, as a matrix of (its first dimension, all others).

    Biases and norms, of one dimension, are left alone.

    Args:
        coefficient: λ, from 0.

    Raises:
        UserError: For a negative coefficient.
    """

    phase: ClassVar[Phase] = Phase.GRADIENT

    def __init__(self, coefficient: float) -> None:
        super().__init__()
        if coefficient < 0:
            raise UserError(f"a penalty's coefficient is at least 0, not {coefficient}", "coefficient")
        self.coefficient = coefficient

    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Add the penalty's gradient; runs at every gradient evaluation, before clipping."""
        for name, weight in named_optimizer_parameters(pl_module, optimizer):
            if weight.ndim > 1 and weight.grad is not None:
                weight.grad += self.coefficient * self.slope(weight.flatten(1), name).view_as(weight)

    @abstractmethod
    def slope(self, matrix: Tensor, name: str) -> Tensor:
        """The gradient of the penalty, without λ, in the matrix's shape.

        Args:
            matrix: A weight, its dimensions after the first flattened.
            name: The weight's, in the module.
        """


class Orthogonal(MatrixPenalty):
    """The penalty λ‖W Wᵀ − I‖²_F, of the smaller side, with gradient 4λ(W Wᵀ − I)W (Bansal et al. 2018, eq. 2).

    Args:
        coefficient: λ, from 0.
    """

    def __init__(self, coefficient: float = 1e-4) -> None:
        super().__init__(coefficient)

    def slope(self, matrix: Tensor, name: str) -> Tensor:
        """4(W Wᵀ − I)W, or 4W(WᵀW − I) for a tall one."""
        if matrix.shape[0] <= matrix.shape[1]:
            excess = matrix @ matrix.T
            excess.diagonal().sub_(1)
            return 4 * excess @ matrix
        return self.slope(matrix.T, name).T


class SpectralNorm(MatrixPenalty):
    """The penalty (λ/2)σ(W)² on the largest singular value, with gradient λσuvᵀ (Yoshida & Miyato 2017, section 3.2).

    σ, u and v come from power iterations that go on from the step before, as in the paper's algorithm 1.

    Args:
        coefficient: λ, from 0.
        iterations: Of the power method a step, from 1.

    Raises:
        UserError: For less than one iteration.
    """

    def __init__(self, coefficient: float = 0.01, iterations: int = 1) -> None:
        super().__init__(coefficient)
        if iterations < 1:
            raise UserError(f"the power method takes at least one iteration a step, not {iterations}", "iterations")
        self.iterations = iterations
        self._vectors: dict[str, Tensor] = {}  # the right singular vector so far, by the weight's name

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Forget the vectors of an earlier fit; a checkpoint's come after this."""
        if stage == "fit":
            self._vectors = {}

    def slope(self, matrix: Tensor, name: str) -> Tensor:
        """σuvᵀ = W v vᵀ."""
        v = self._vectors.get(name)
        if v is None:
            generator = torch.Generator().manual_seed(0)  # its own: any direction does, and the trial's draws stay
            v = torch.randn(matrix.shape[1], generator=generator).to(matrix)
        v = v.to(matrix.device)  # a checkpoint's is on the CPU
        for _ in range(self.iterations):
            image = matrix.T @ (matrix @ v)
            # A weight of zeros has no direction: keep the present one.
            v = torch.where(image.norm() > 0, nn.functional.normalize(image, dim=0), v)
        self._vectors[name] = v
        return torch.outer(matrix @ v, v)

    def state_dict(self) -> dict[str, Any]:
        """The vectors, so that a resumed training goes on as an uninterrupted one."""
        return {"vectors": dict(self._vectors)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        self._vectors = dict(state_dict["vectors"])
