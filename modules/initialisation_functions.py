"""Initialisations: each a function that redraws the weights of a module's linear and convolutional layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainoff.errors import UserError
from trainoff.modules.initialisation import INITIALISATIONS
from trainoff.registry import arguments_of
from trainoff.seeds import derive_seed

_WEIGHTED = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


def initialise(module: nn.Module, choice: Mapping[str, Any]) -> None:
    """Redraw a module's weights in place, from a generator of their own.

    The draw depends on the global seed alone, not on what was drawn since it was set, and leaves the global
    generator as it was: every recipe that asks for the same initialisation starts from the same weights.

    Args:
        module: Whose linear and convolutional layers are redrawn.
        choice: Normalised.

    Raises:
        UserError: For arguments that the initialisation does not take.
    """
    function = INITIALISATIONS.load(choice)
    if function is keep:
        return
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(torch.initial_seed(), "initialisation"))
        try:
            function(module, **arguments_of(choice))
        except TypeError as error:
            raise UserError(str(error), "initialisation") from error


def keep(module: nn.Module) -> None:
    """Leave every weight as it is."""


def xavier_uniform(module: nn.Module, gain: float = 1.0) -> None:
    """U(±gain·√(6 / (fan in + fan out))), biases 0 (Glorot & Bengio 2010, eq. 16)."""
    _redraw(module, lambda weight: nn.init.xavier_uniform_(weight, gain))


def xavier_normal(module: nn.Module, gain: float = 1.0) -> None:
    """N(0, gain²·2 / (fan in + fan out)), biases 0 (Glorot & Bengio 2010, eq. 12)."""
    _redraw(module, lambda weight: nn.init.xavier_normal_(weight, gain))


def kaiming_normal(module: nn.Module) -> None:
    """N(0, 2 / fan in), biases 0 (He et al. 2015, eq. 10)."""
    _redraw(module, lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"))


def kaiming_uniform(module: nn.Module) -> None:
    """U(±√(6 / fan in)), biases 0: the same variance as the normal form."""
    _redraw(module, lambda weight: nn.init.kaiming_uniform_(weight, nonlinearity="relu"))


def _redraw(module: nn.Module, draw: Callable[[Tensor], Tensor]) -> None:
    for layer in module.modules():
        if isinstance(layer, _WEIGHTED):
            draw(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
