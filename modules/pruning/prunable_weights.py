"""Which weights may be pruned, and which of their dimensions counts a layer's units."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from trainoff.modules.parameter_groups import undecayed_names

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def prunable_weights(module: nn.Module, exclude: Sequence[str] = ()) -> dict[str, nn.Parameter]:
    """The trainable weights of two and more dimensions, by name, without norms, embeddings and what is excluded.

    Args:
        module: Whose weights.
        exclude: Shell patterns of parameter names.
    """
    spared = undecayed_names(module)
    norms = {id(p) for part in module.modules() if isinstance(part, _NORMS) for p in part.parameters(recurse=False)}
    return {
        name: parameter
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
        and name not in spared
        and id(parameter) not in norms
        and not any(fnmatchcase(name, pattern) for pattern in exclude)
    }


def unit_dimension(module: nn.Module, name: str) -> int:
    """The dimension of a weight that counts its layer's units or output channels."""
    owner = module.get_submodule(name.rpartition(".")[0])
    return 1 if isinstance(owner, _TRANSPOSED) else 0


def bias_of(module: nn.Module, name: str, units: int) -> str | None:
    """The name of the bias that belongs to a weight's units, where there is one."""
    prefix = name.rpartition(".")[0]
    bias = getattr(module.get_submodule(prefix), "bias", None)
    if not name.endswith("weight") or not isinstance(bias, nn.Parameter) or bias.shape != (units,):
        return None
    return f"{prefix}.bias" if prefix else "bias"
