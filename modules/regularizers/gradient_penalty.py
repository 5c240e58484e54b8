"""A penalty on the gradient with respect to the inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor, nn

from trainoff.errors import UserError
from trainoff.modules.regularizers.base import Phase, Regularizer
from trainoff.modules.regularizers.training_step import leave_step, like_batch, parts_of, stand_around
from trainoff.modules.token_module import TokenModule


class GradientPenalty(Regularizer):
    """Adds (γ/2)·E‖∇ₓL(x)‖² to the loss, L the loss of one sample (Drucker & LeCun 1992, double backpropagation).

    With a discriminator's output in place of L this is R1 (Mescheder, Geiger & Nowozin 2018, eq. 9), which
    :func:`input_gradient_penalty` computes. Each step differentiates twice: it costs two to three times as much. The
    loss has to be a mean over samples; where samples act on each other, as through batch norm, a sample's gradient
    holds what it does to the others' losses. The module's own logs are without the penalty.

    Args:
        coefficient: γ, from 0.

    Raises:
        UserError: For a negative coefficient.
    """

    phase: ClassVar[Phase] = Phase.LOSS

    def __init__(self, coefficient: float = 0.1) -> None:
        super().__init__()
        if coefficient < 0:
            raise UserError(f"a penalty's coefficient is at least 0, not {coefficient}", "coefficient")
        self.coefficient = coefficient

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse what cannot be differentiated twice.

        Raises:
            UserError: For recurrent layers on a GPU, a module that optimizes by hand, and one that reads tokens.
        """
        if isinstance(pl_module, TokenModule):
            what = type(pl_module).__name__
            raise UserError(f"the inputs of a {what} are token numbers, which have no gradient", "gradient_penalty")
        if not pl_module.automatic_optimization:
            raise UserError(f"{type(pl_module).__name__} optimizes by hand; add it to its loss", "gradient_penalty")
        recurrent = any(isinstance(part, nn.RNNBase) for part in pl_module.modules())
        if recurrent and pl_module.device.type == "cuda" and torch.backends.cudnn.enabled:
            raise UserError(
                "cuDNN's recurrent layers cannot be differentiated twice; set torch.backends.cudnn.enabled = False",
                "gradient_penalty",
            )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put itself around ``training_step``."""
        stand_around(pl_module, self._penalised)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the module as it was."""
        leave_step(pl_module)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave the module as it was."""
        leave_step(pl_module)

    def _penalised(self, step: Callable[..., Any], batch: Any, *args: Any, **kwargs: Any) -> Any:
        given, *others = parts_of(batch, "gradient_penalty")
        if not given.is_floating_point():
            raise UserError("the inputs are whole numbers, which have no gradient", "gradient_penalty")
        inputs = given.detach().requires_grad_()
        output = step(like_batch(batch, [inputs, *others]), *args, **kwargs)
        loss = output["loss"] if isinstance(output, Mapping) else output
        if loss is None:  # a step that is left out
            return output
        # Of the mean of n losses a sample's gradient is 1/n of its own.
        loss = loss + input_gradient_penalty(loss * len(inputs), inputs, self.coefficient)
        return {**output, "loss": loss} if isinstance(output, Mapping) else loss


def input_gradient_penalty(outputs: Tensor, inputs: Tensor, coefficient: float) -> Tensor:
    """(γ/2)·E‖∇ₓf(x)‖², differentiable.

    Args:
        outputs: f(x) of each sample, of any shape, or their sum; each must depend on its own sample alone.
        inputs: x, (batch, ...), with ``requires_grad``.
        coefficient: γ.
    """
    (gradients,) = torch.autograd.grad(outputs.sum(), inputs, create_graph=True)
    return coefficient / 2 * gradients.flatten(1).square().sum(1).mean()
