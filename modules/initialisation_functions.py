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


def lecun_normal(module: nn.Module) -> None:
    """N(0, 1 / fan in), biases 0 (LeCun et al. 1998, eq. 16)."""
    _redraw(module, lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="linear"))


def lecun_uniform(module: nn.Module) -> None:
    """U(±√(3 / fan in)), biases 0: the same variance as the normal form."""
    _redraw(module, lambda weight: nn.init.kaiming_uniform_(weight, nonlinearity="linear"))


def orthogonal(module: nn.Module, gain: float = 1.0) -> None:
    """Orthonormal rows or columns of each weight, as a matrix, times ``gain``; biases 0 (Saxe et al. 2014)."""
    _redraw(module, lambda weight: nn.init.orthogonal_(weight, gain))


def truncated_normal(module: nn.Module, std: float = 0.02) -> None:
    """N(0, std²) within two deviations of ``std``, biases 0 (Devlin et al. 2019)."""
    if std <= 0:
        raise UserError(f"a standard deviation is above 0, not {std}", "initialisation.std")
    _redraw(module, lambda weight: nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std))


def zero_residual(module: nn.Module) -> None:
    """Zero the end of every residual branch, all else as it was drawn (Goyal et al. 2017, section 5.1).

    A branch is what a block's ``residual_branch()`` returns: the layers of the branch in their order.

    Raises:
        UserError: For a module without such blocks.
    """
    with torch.no_grad():
        for branch in _residual_branches(module, "zero_residual"):
            # The last norm where it comes last; behind it, as in branches that begin with their norm, the last weight:
            # an activation between the two could hold back every gradient.
            end = next(layer for layer in reversed(branch) if _is_norm(layer) or isinstance(layer, _WEIGHTED))
            for parameter in end.parameters(recurse=False):
                parameter.zero_()


def fixup(module: nn.Module) -> None:
    """He's normal draw; within each of the L branches of m layers times L^(−1/(2m − 2)), the last one zero.

    The module's own last layer, the classifier, is zero too, and so are all biases (Zhang et al. 2019, section 3,
    steps 1 and 2; its scalar biases and multipliers are a matter of the net).

    Raises:
        UserError: For a module without residual blocks, or one whose branches have norms.
    """
    branches = _residual_branches(module, "fixup")
    if any(_is_norm(layer) for branch in branches for layer in branch):
        raise UserError("fixup is for residual nets without norms; build the net with norm: null", "initialisation")
    kaiming_normal(module)
    with torch.no_grad():
        for branch in branches:
            *inner, last = _weighted(branch)
            for layer in inner:
                layer.weight.mul_(len(branches) ** (-1 / (2 * len(inner))))
            last.weight.zero_()
        _weighted(list(module.modules()))[-1].weight.zero_()


def _residual_branches(module: nn.Module, name: str) -> list[list[nn.Module]]:
    blocks: list[Any] = [part for part in module.modules() if hasattr(part, "residual_branch")]
    branches = [list(block.residual_branch()) for block in blocks]
    if not branches:
        raise UserError(
            f"{name} is for residual nets, and {type(module).__name__} has no block with a residual_branch()",
            "initialisation",
        )
    return branches


def _is_norm(layer: nn.Module) -> bool:
    """Whether a layer scales by a vector: batch, layer, group, instance and RMS norm alike."""
    weight = getattr(layer, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim == 1


def _weighted(layers: list[nn.Module]) -> list[Any]:
    return [layer for layer in layers if isinstance(layer, _WEIGHTED)]


def _redraw(module: nn.Module, draw: Callable[[Tensor], Tensor]) -> None:
    for layer in module.modules():
        if isinstance(layer, _WEIGHTED):
            draw(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            reset_length = getattr(layer, "reset_length", None)
            if callable(reset_length):  # weight norm: its length is that of what was drawn
                reset_length()
