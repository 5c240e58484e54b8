"""Which weights or units go, given a score of each: the lowest of a layer, or of all layers together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from trainoff.errors import UserError
from trainoff.modules.pruning.prunable_weights import bias_of, unit_dimension

Scope = Literal["local", "global"]


def check_scope(scope: str) -> Scope:
    """``local`` or ``global``, or :class:`UserError`."""
    if scope not in ("local", "global"):
        raise UserError(f"weights are ranked in each layer (local) or all together (global), not '{scope}'", "scope")
    return scope  # type: ignore[return-value]


def keep_highest(
    scores: Mapping[str, Tensor], sparsity: float, scope: Scope, masks: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Masks that keep all but a share of the lowest scores; equal scores go in the order of the weights.

    Args:
        scores: By name, any shapes.
        sparsity: Share that goes, rounded to whole entries: of each tensor (``local``) or of all (``global``).
        scope: The set that is ranked together.
        masks: What is pruned already stays so.
    """
    ranked = {}
    for name, score in scores.items():
        flat = score.detach().flatten().double()
        gone = None if masks is None or name not in masks else ~masks[name].flatten()
        ranked[name] = flat if gone is None else flat.masked_fill(gone, -math.inf)
    if scope == "local":
        kept = [_kept(flat, sparsity) for flat in ranked.values()]
    else:
        sizes = [flat.numel() for flat in ranked.values()]
        kept = list(_kept(torch.cat([*ranked.values()]), sparsity).split(sizes))
    return {name: mask.view(scores[name].shape) for name, mask in zip(ranked, kept, strict=True)}


def _kept(scores: Tensor, sparsity: float) -> Tensor:
    mask = torch.ones_like(scores, dtype=torch.bool)
    mask[torch.argsort(scores, stable=True)[: round(sparsity * scores.numel())]] = False
    return mask


def hidden_units(module: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights whose units are hidden: all but the module's last one, whose units are the outputs.

    Raises:
        UserError: Where none is left.
    """
    hidden = dict(list(weights.items())[:-1])
    if not hidden:
        raise UserError(f"{type(module).__name__} has no hidden layer whose units could be pruned", "pruning")
    return hidden


def unit_norms(module: nn.Module, weights: Mapping[str, Tensor], power: int = 2) -> dict[str, Tensor]:
    """The norm of each unit's incoming weights, in units of its layer's mean: layers differ in scale (Molchanov 2017).

    Args:
        module: Whose weights.
        weights: By name, hidden ones.
        power: 2 for the 2-norm, 1 for the 1-norm.

    Returns:
        By name, (units,).
    """
    norms = {}
    for name, weight in weights.items():
        incoming = weight.detach().transpose(0, unit_dimension(module, name)).flatten(1).abs().double()
        norm = incoming.pow(power).mean(dim=1).pow(1 / power)
        norms[name] = norm / norm.mean().clamp_min(torch.finfo(norm.dtype).tiny)
    return norms


def keep_highest_units(
    norms: Mapping[str, Tensor], sparsity: float, scope: Scope, kept: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Likewise of units; the best of each layer stays, or nothing would pass it.

    Returns:
        By name, (units,); true where a unit is kept.
    """
    safe = {name: norm.clone() for name, norm in norms.items()}
    for norm in safe.values():
        norm[norm.argmax()] = math.inf
    masks = keep_highest(safe, sparsity, scope, kept)
    for name, mask in masks.items():
        mask[safe[name].argmax()] = True
    return masks


def unit_masks(module: nn.Module, weights: Mapping[str, Tensor], units: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Masks of whole units: their incoming weights, and the bias that would make them a constant.

    Args:
        module: Whose weights.
        weights: By name.
        units: By name, (units,); true where a unit is kept.
    """
    masks = {}
    for name, kept in units.items():
        weight = weights[name]
        shape = [1] * weight.ndim
        shape[unit_dimension(module, name)] = -1
        masks[name] = kept.view(shape).expand(weight.shape).contiguous()
        bias = bias_of(module, name, kept.numel())
        if bias is not None:
            masks[bias] = kept.clone()
    return masks


def units_kept(module: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The units that masks of their weights leave any weight of: by name, (units,)."""
    return {
        name: mask.transpose(0, unit_dimension(module, name)).flatten(1).any(dim=1) for name, mask in masks.items()
    }
