"""Bounds on the gradient."""

from __future__ import annotations

from typing import ClassVar, Literal

import lightning as L
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Optimizer

from trainoff.errors import UserError
from trainoff.modules.regularizers.base import Phase, Regularizer


class GradientClip(Regularizer):
    """Bounds the gradient's norm over all parameters, or each value (Pascanu et al. 2013, algorithm 1).

    Acts after penalties have been added.

    Args:
        maximum: The bound, above 0.
        by: ``norm`` (the 2-norm of all gradients together) or ``value`` (each entry's magnitude).

    Raises:
        UserError: For a bound that is not positive.
    """

    phase: ClassVar[Phase] = Phase.CLIPPING

    def __init__(self, maximum: float = 1.0, by: Literal["norm", "value"] = "norm") -> None:
        super().__init__()
        if maximum <= 0:
            raise UserError(f"the bound of clipping is above 0, not {maximum}", "maximum")
        if by not in ("norm", "value"):
            raise UserError(f"clipping is by 'norm' or by 'value', not by '{by}'", "by")
        self.maximum = maximum
        self.by = by

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse a second clipper.

        Raises:
            UserError: Where the Trainer clips too.
        """
        if trainer.gradient_clip_val is not None:
            raise UserError("the Trainer has gradient_clip_val as well; keep one of the two", "gradient_clip")

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Clip the gradients of this optimizer's parameters."""
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if self.by == "norm":
            clip_grad_norm_(parameters, self.maximum)
        else:
            clip_grad_value_(parameters, self.maximum)
