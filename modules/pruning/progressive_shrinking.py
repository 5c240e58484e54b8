"""Elastic width: a net that is trained wide and becomes narrow, or begins narrow and becomes wide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainoff.errors import UserError
from trainoff.modules.pruning.criteria import hidden_units, keep_highest_units, unit_masks, unit_norms
from trainoff.modules.pruning.dense_weights import DenseWeights


class ProgressiveShrinking(DenseWeights):
    """Trains a net at several widths, from large to small (Cai et al. 2020, section 3.3), or grows it.

    A width w keeps the share w of each layer's hidden units, by the mean absolute value of their incoming weights, one
    unit at least; the others are masked, with their biases, and keep their values. The widths are
    w_i = 1 − (1 − width)·i/stages.

    ``shrink`` divides the training into ``stages + 2`` equal parts. The first trains the whole net; in part i each
    step draws one of w_0 … w_i, alike in all processes, after the units were ranked anew; the last part trains the
    narrowest net, which stays. Between steps the module holds the narrowest net of its part.

    ``grow`` divides it into ``stages + 1`` parts: the first trains the narrowest net, and with each following one the
    next units come in, with the values that they had at the start, until the net is whole. Units are ranked once.

    Args:
        width: Share of the hidden units of the narrowest net, in (0, 1).
        stages: How many narrower widths there are, from 1.
        direction: ``shrink`` or ``grow``.
        exclude: Shell patterns of the names of weights whose units all stay.

    Raises:
        UserError: For numbers out of range, or an unknown direction.
    """

    refusal: ClassVar[str] = "masks other units at each step"

    def __init__(
        self,
        width: float = 0.5,
        stages: int = 2,
        direction: Literal["shrink", "grow"] = "shrink",
        exclude: Sequence[str] = (),
    ) -> None:
        super().__init__(exclude)
        if not 0 < width < 1:
            raise UserError(f"the narrowest net has a share of the units in (0, 1), not {width}", "width")
        if stages < 1:
            raise UserError(f"there is at least one narrower width, not {stages}", "stages")
        if direction not in ("shrink", "grow"):
            raise UserError(f"a net can shrink or grow, not '{direction}'", "direction")
        self.width, self.stages, self.direction = width, stages, direction

    def _forget(self) -> None:
        super()._forget()
        self._part = -1
        self._choices: list[dict[str, Tensor]] = []  # masks by width, the narrowest last
        self._norms: dict[str, Tensor] = {}  # that the units are ranked by

    def weights_of(self, module: L.LightningModule) -> dict[str, nn.Parameter]:
        """Those of hidden units, of which a layer has two or more.

        Raises:
            UserError: Where there is none.
        """
        weights = super().weights_of(module)
        hidden = hidden_units(module, weights) if weights else {}
        if all(len(norm) < 2 for norm in unit_norms(module, hidden).values()):
            raise UserError(f"{type(module).__name__} has no layer of hidden units that could shrink", "pruning")
        return hidden  # type: ignore[return-value]

    @property
    def _parts(self) -> int:
        return self.stages + (2 if self.direction == "shrink" else 1)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the length, and move what a checkpoint brought to the weights' devices.

        Raises:
            UserError: Where a part would have no step.
        """
        super().on_train_start(trainer, pl_module)
        self.refuse_fewer_steps(trainer, self._parts)
        places = {name: parameter.device for name, parameter in self._parameters.items()}
        self._choices = [{name: mask.to(places[name]) for name, mask in masks.items()} for masks in self._choices]
        self._norms = {name: norm.to(places[name]) for name, norm in self._norms.items()}

    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Units that were masked learn nothing from this step."""
        super().on_before_optimizer_step(trainer, pl_module, optimizer)
        for name, weight in self._masked():
            if weight.grad is not None:
                weight.grad.mul_(self._masks[name])

    def before_step(self, trainer: L.Trainer, module: L.LightningModule, step: int) -> None:
        """Begin a part where it is time, and draw a width."""
        part = min(step * self._parts // self._total_steps, self._parts - 1)
        if part != self._part:
            self._part = part
            self._choices = self._choices_of(module, part)
            self.is_done = part == self._parts - 1
            if self._choices:
                self.set_masks(trainer, self._choices[-1])
        if len(self._choices) > 1:
            generator = torch.Generator().manual_seed(step)
            drawn = int(torch.randint(len(self._choices), (), generator=generator))
            self.set_masks(trainer, self._choices[drawn], counted=False)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Leave the narrowest net of the part, for validation and checkpoints."""
        stepped = self._holds_dense
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if stepped and len(self._choices) > 1:
            self.set_masks(trainer, self._choices[-1], counted=False)

    def _choices_of(self, module: L.LightningModule, part: int) -> list[dict[str, Tensor]]:
        if not self._norms or self.direction == "shrink":
            dense = {name: self._dense.get(name, weight.detach()) for name, weight in self._weights.items()}
            self._norms = unit_norms(module, dense, power=1)
        widths = [1 - (1 - self.width) * i / self.stages for i in range(self.stages + 1)]
        if self.direction == "grow":
            return [self._masks_of(module, widths[self.stages - part])]
        if part == 0:
            return []
        if part > self.stages:
            return [self._choices[-1]]
        return [self._masks_of(module, width) for width in widths[: part + 1]]

    def _masks_of(self, module: L.LightningModule, width: float) -> dict[str, Tensor]:
        weights = self.weights_of(module)
        return unit_masks(module, weights, keep_highest_units(self._norms, 1 - width, "local"))

    def state_dict(self) -> dict[str, Any]:
        """The part, its masks and the ranks, too."""
        choices = [{name: mask.clone() for name, mask in masks.items()} for masks in self._choices]
        return {**super().state_dict(), "part": self._part, "choices": choices, "norms": dict(self._norms)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        super().load_state_dict(state_dict)
        self._part, self._choices, self._norms = state_dict["part"], state_dict["choices"], state_dict["norms"]
