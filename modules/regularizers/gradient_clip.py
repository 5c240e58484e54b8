"""Bounds on the gradient."""

from __future__ import annotations

from typing import ClassVar, Literal

import lightning as L
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Optimizer

from trainoff.errors import UserError
from trainoff.modules.regularizers.base import Phase, Regularizer
from trainoff.modules.sharded_tensors import alike, norm_of_all

_LEAST_NORM = 1e-3  # of a unit's weights, so that what starts at zero can move (Brock et al. 2021, section 4)


class GradientClip(Regularizer):
    """Bounds the gradient's norm over all parameters (Pascanu et al. 2013, algorithm 1), each value, or each unit.

    Acts after penalties have been added.

    Args:
        maximum: The bound, above 0.
        by: ``norm`` (the 2-norm of all gradients together), ``value`` (each entry's magnitude) or ``unit`` (the norm
            of each unit's gradient by that of its weights, at least 0.001: adaptive clipping, Brock et al. 2021,
            eq. 3; its paper has a maximum of 0.01 and leaves the output layer out, which this does not).

    Raises:
        UserError: For a bound that is not positive.
    """

    phase: ClassVar[Phase] = Phase.CLIPPING

    def __init__(self, maximum: float = 1.0, by: Literal["norm", "value", "unit"] = "norm") -> None:
        super().__init__()
        if maximum <= 0:
            raise UserError(f"the bound of clipping is above 0, not {maximum}", "maximum")
        if by not in ("norm", "value", "unit"):
            raise UserError(f"clipping is by 'norm', by 'value' or by 'unit', not by '{by}'", "by")
        self.maximum = maximum
        self.by = by

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse a second clipper.

        Raises:
            UserError: Where the Trainer, or another callback, clips too.
        """
        clippers = [callback for callback in trainer.callbacks if isinstance(callback, GradientClip)]  # type: ignore[attr-defined]
        if any(c is not self and c.part == self.part and c.owns(pl_module) for c in clippers):
            raise UserError("two of them clip one after the other; keep one of the two", "gradient_clip")
        if trainer.gradient_clip_val is not None:
            raise UserError("the Trainer has gradient_clip_val as well; keep one of the two", "gradient_clip")

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Clip the gradients of this optimizer's parameters."""
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if self.by == "norm":
            _clip_norm(parameters, self.maximum)
        elif self.by == "value":
            for places in alike(parameters):
                clip_grad_value_([parameters[place] for place in places], self.maximum)
        else:
            _clip_units(parameters, self.maximum)


@torch.no_grad()
def _clip_norm(parameters: list[Tensor], maximum: float) -> None:
    """Torch's own clipping, which takes no sharded tensors beside plain ones; here those come in any mixture."""
    if not any(isinstance(parameter, DTensor) for parameter in parameters):
        clip_grad_norm_(parameters, maximum)
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if gradients:
        share = (maximum / (norm_of_all(gradients) + 1e-6)).clamp_(max=1)
        for gradient in gradients:
            gradient.mul_(share)


@torch.no_grad()
def _clip_units(parameters: list[Tensor], maximum: float) -> None:
    """Each unit's gradient to at most ``maximum`` times the norm of its weights."""
    for parameter in parameters:
        if parameter.grad is not None:
            bound = maximum * _unit_norms(parameter).clamp_(min=_LEAST_NORM)
            parameter.grad.mul_((bound / _unit_norms(parameter.grad)).clamp_(max=1))


def _unit_norms(tensor: Tensor) -> Tensor:
    """The norm over all dimensions but the first; of each entry, where there is no other."""
    if tensor.ndim <= 1:
        return tensor.abs()
    norms: Tensor = torch.linalg.vector_norm(tensor, dim=tuple(range(1, tensor.ndim)), keepdim=True)
    return norms
