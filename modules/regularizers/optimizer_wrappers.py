"""Regularizers that are a way of taking the step: they wrap the recipe's optimizer in another one."""

from __future__ import annotations

from typing import ClassVar

import lightning as L

from trainoff.errors import UserError
from trainoff.modules.regularizers.base import Phase, Regularizer


class OptimizerWrapper(Regularizer):
    """Stands for the optimizer of its name around the recipe's; the recipe's optimizer is built so."""

    phase: ClassVar[Phase] = Phase.STEP
    optimizer: ClassVar[str]  # its name among the optimizers

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse to do nothing.

        Raises:
            UserError: Where no recipe brought it, so that nothing was wrapped.
        """
        if self.owner is None:
            raise UserError(
                f"{type(self).__name__} acts through a recipe's optimizer: "
                f"Recipe('sgd', regularizers=['{self.optimizer}']).apply(module)",
                self.optimizer,
            )


class SAM(OptimizerWrapper):
    """Sharpness-aware minimisation: the gradient is taken at θ + ρg/‖g‖, the step is made from θ (Foret et al. 2021).

    Each step evaluates loss and gradient twice.

    Args:
        rho: ρ, the radius of the neighbourhood, above 0.
        adaptive: Scale the neighbourhood by the weights (ASAM, Kwon et al. 2021).

    Raises:
        UserError: For a radius that is not positive.
    """

    optimizer: ClassVar[str] = "sam"

    def __init__(self, rho: float = 0.05, adaptive: bool = False) -> None:
        super().__init__()
        if rho <= 0:
            raise UserError(f"the radius is above 0, not {rho}", "rho")
        self.rho = rho
        self.adaptive = adaptive


class Lookahead(OptimizerWrapper):
    """Every k steps the slow weights move a share α towards the fast ones, which go on from there (Zhang et al. 2019).

    Args:
        k: Steps of the optimizer between two moves, from 1.
        alpha: α, in (0, 1].

    Raises:
        UserError: For numbers out of range.
    """

    optimizer: ClassVar[str] = "lookahead"

    def __init__(self, k: int = 5, alpha: float = 0.5) -> None:
        super().__init__()
        if k < 1:
            raise UserError(f"the slow weights move after at least one step, not {k}", "k")
        if not 0 < alpha <= 1:
            raise UserError(f"the slow weights' share lies in (0, 1], not {alpha}", "alpha")
        self.k = k
        self.alpha = alpha
