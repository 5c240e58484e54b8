"""Which parameters an optimizer gets, with what of their own: patterns, freezing, and who is spared weight decay."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from trainoff.errors import UserError, closest

Group = dict[str, Any]
GROUP_KEYS = ("match", "lr", "lr_scale", "weight_decay", "freeze")
# A group's key for a pattern's decay that the regularizer `weight_decay` applies, not the optimizer. The key is no
# optimizer's own: torch's Adam has one called `decoupled_weight_decay` in every group.
OWN_DECAY = "decay_by_regularizer"
_NUMBERS = ("lr", "lr_scale", "weight_decay")


@dataclass(frozen=True)
class Rates:
    """What a group has where no pattern says otherwise; ``None`` leaves it to the optimizer.

    Args:
        lr: Learning rate, which a pattern's ``lr_scale`` multiplies.
        decay: Decoupled weight decay, from which biases, norms and embeddings are spared; ``None`` where the
            optimizer decays all or none.
    """

    lr: float | None = None
    decay: float | None = None


def hidden_matrices(module: nn.Module, least: int = 2, most: int = 2) -> set[str]:
    """Names of the weights that optimizers of the Muon kind are for: matrices between hidden units.

    Left out are embeddings and the last weight of the module, which is its output layer (Jordan et al. 2024).

    Args:
        module: Whose parameters.
        least: Dimensions that a weight has at least.
        most: And at most: 2 for matrices alone, more where the optimizer flattens convolutions.
    """
    embeddings = _embeddings(module)
    names = [name for name, p in module.named_parameters() if p.ndim >= 2 and name not in embeddings]
    shapes = dict(module.named_parameters())
    return {name for name in names[:-1] if least <= shapes[name].ndim <= most}


def undecayed_names(module: nn.Module) -> set[str]:
    """Names of the parameters that weight decay leaves out: biases, norms' weights (all of one dimension or
    none) and embeddings.
    """
    return {name for name, parameter in module.named_parameters() if parameter.ndim <= 1} | _embeddings(module)


def _embeddings(module: nn.Module) -> set[str]:
    return {
        f"{owner_name}.weight" if owner_name else "weight"
        for owner_name, owner in module.named_modules()
        if isinstance(owner, (nn.Embedding, nn.EmbeddingBag))
    }


def freeze(module: nn.Module, patterns: Sequence[Mapping[str, Any]]) -> list[str]:
    """Set ``requires_grad`` to false where a recipe's ``parameters`` say ``freeze: true``, and return the names.

    Before a strategy wraps the module: DDP takes note then of what is trained.
    """
    frozen = []
    for name, parameter in module.named_parameters():
        pattern = next((p for p in patterns if fnmatchcase(name, p["match"])), {})
        if pattern.get("freeze") and parameter.requires_grad:
            parameter.requires_grad_(False)
            frozen.append(name)
    return frozen


def parameter_groups(
    module: nn.Module,
    patterns: Sequence[Mapping[str, Any]],
    rates: Rates,
    matrices: Collection[str] | None = None,
    rest: Rates = Rates(),
) -> list[Group]:
    """Split the trainable parameters into named groups; each lands in exactly one.

    Args:
        module: Whose parameters.
        patterns: A recipe's ``parameters``: ``match`` (a shell pattern over parameter names) with ``lr``,
            ``lr_scale``, ``weight_decay`` or ``freeze: true``. The first match counts. What is frozen
            (:func:`freeze`) is in no group.
        rates: Of the groups, where no pattern says otherwise.
        matrices: Names of parameters that the optimizer treats apart from all others; each group then says in
            ``use_muon`` which of the two it is of. ``None`` for optimizers that treat all alike.
        rest: The rates of those others.

    Returns:
        Groups as torch takes them, with ``name`` beside ``params``.

    Raises:
        UserError: For a pattern that matches nothing, or an unknown key.
    """
    check_patterns(patterns)
    undecayed = undecayed_names(module)
    groups: dict[tuple[int, bool, bool], Group] = {}
    used: set[int] = set()
    for name, parameter in module.named_parameters():
        number = next((i for i, p in enumerate(patterns) if fnmatchcase(name, p["match"])), -1)
        used.add(number)
        if not parameter.requires_grad or (number >= 0 and patterns[number].get("freeze")):
            continue
        is_matrix = matrices is None or name in matrices
        its = rates if is_matrix else rest
        key = (number, its.decay is not None and name in undecayed, is_matrix)
        if key not in groups:
            groups[key] = _new_group(patterns[number] if number >= 0 else {}, its, spared=key[1])
            if matrices is not None:
                groups[key]["use_muon"] = is_matrix
                groups[key]["name"] += "" if is_matrix else ", no hidden matrices"
        groups[key]["params"].append(parameter)
    for number, pattern in enumerate(patterns):
        if number not in used:
            names = [name for name, _ in module.named_parameters()]
            raise UserError(
                f"'{pattern['match']}' matches no parameter that an earlier pattern left"
                f"{closest(pattern['match'], names)}",
                f"parameters[{number}].match",
            )
    if not groups:
        raise UserError(f"{type(module).__name__} has no trainable parameter", "parameters")
    return list(groups.values())


def check_patterns(patterns: Sequence[Mapping[str, Any]]) -> None:
    """Raise :class:`UserError` for a recipe's ``parameters`` with an unknown key or a value out of range."""
    for number, pattern in enumerate(patterns):
        where = f"parameters[{number}]"
        if not isinstance(pattern.get("match"), str):
            raise UserError("has no match; write {match: 'backbone.*', lr_scale: 0.1}", where)
        for key, value in pattern.items():
            if key not in GROUP_KEYS:
                raise UserError(f"a group has no '{key}'{closest(key, GROUP_KEYS)}", where)
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if key in _NUMBERS and not (is_number and value >= 0):
                raise UserError(f"{value!r} is not a number from 0", f"{where}.{key}")
            if key == "freeze" and not isinstance(value, bool):
                raise UserError(f"{value!r} is neither true nor false", f"{where}.{key}")
        if "lr" in pattern and "lr_scale" in pattern:
            raise UserError("has both lr and lr_scale", where)


def _new_group(pattern: Mapping[str, Any], rates: Rates, spared: bool) -> Group:
    group: Group = {"params": [], "name": pattern.get("match", "rest") + (", no decay" if spared else "")}
    if "lr" in pattern:
        group["lr"] = pattern["lr"]
    elif "lr_scale" in pattern and rates.lr is not None:
        group["lr"] = rates.lr * pattern["lr_scale"]
    if "weight_decay" in pattern:  # said for these very parameters: also where they would be spared
        group["weight_decay"] = pattern["weight_decay"]
    elif spared:
        group["weight_decay"] = 0.0
    elif rates.decay is not None:
        group["weight_decay"] = rates.decay
    return group
