"""What every regularizer is: a Lightning Callback that knows when in a step it acts, and on whose module."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Any, ClassVar

import lightning as L
from torch import nn
from torch.optim import Optimizer


class Phase(IntEnum):
    """The order in which the effects of several regularizers follow one another within a training step."""

    BATCH = 0
    LOSS = 1
    GRADIENT = 2
    PRUNING = 3
    CLIPPING = 4
    STEP = 5
    AVERAGING = 6
    STOPPING = 7


class RecipeCallback(L.Callback):
    """A callback that belongs to one module, and does nothing while its Trainer works on another.

    A Trainer that fits a second module keeps the callbacks of the first. The check is added to every hook that a
    subclass defines, so that no regularizer can forget it. Without an owner (in ``Trainer(callbacks=[...])``) the
    callback works on whatever module is trained.

    A module that trains several nets by turns, each by its own recipe, names the net whose turn it is in its attribute
    ``present_part``; a callback of one of the recipes then sees only the backward passes and steps of its own net.
    """

    owner: str | None = None
    part: str | None = None  # the submodule that the callback's recipe trains; the whole module where there is but one

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, hook in list(vars(cls).items()):
            is_hook = hasattr(L.Callback, name) and inspect.isfunction(hook)
            if is_hook and list(inspect.signature(hook).parameters)[1:3] == ["trainer", "pl_module"]:
                setattr(cls, name, _for_own_module(hook, only_in_turn=name in _HOOKS_OF_A_STEP))

    def owns(self, module: nn.Module) -> bool:
        """Whether this callback works on that module."""
        return self.owner is None or getattr(module, "recipe_owner", None) == self.owner

    def part_of(self, module: nn.Module) -> nn.Module:
        """What of the module this callback works on: all of it, or its part."""
        return module if self.part is None else module.get_submodule(self.part)

    @functools.cached_property
    def state_key(self) -> str:  # type: ignore[override]
        """The class and its arguments, so that two of one class keep their states apart.

        Kept, because Lightning asks for it at every hook of every step.
        """
        plain = (str, int, float, list, tuple, type(None))  # Lightning attaches functions of its own
        arguments = {k: v for k, v in sorted(vars(self).items()) if isinstance(v, plain) and not k.startswith("_")}
        arguments.pop("owner", None)
        return f"{type(self).__qualname__}{arguments}"


_HOOKS_OF_A_STEP = ("on_before_backward", "on_after_backward", "on_before_optimizer_step")


def _for_own_module(hook: Callable[..., Any], only_in_turn: bool) -> Callable[..., Any]:
    @functools.wraps(hook)
    def guarded(self: RecipeCallback, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kw: Any) -> Any:
        if only_in_turn and self.part is not None and self.part != pl_module.present_part:
            return None
        if self.owns(pl_module):
            return hook(self, trainer, pl_module, *args, **kw)
        return None

    return guarded


class Regularizer(RecipeCallback):
    """Base of the regularizers.

    A subclass keeps its arguments as plain attributes, checks them in ``__init__``, and overrides the Lightning
    hooks it needs (named ``trainer, pl_module``, as Lightning names them).
    """

    phase: ClassVar[Phase] = Phase.GRADIENT


def named_optimizer_parameters(module: nn.Module, optimizer: Optimizer) -> Iterator[tuple[str, nn.Parameter]]:
    """The optimizer's own parameters with their names in the module.

    Over the optimizer's and not the module's: a GAN's penalty on one net must not touch the other.
    """
    mine = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for name, parameter in module.named_parameters():
        if id(parameter) in mine:
            yield name, parameter
