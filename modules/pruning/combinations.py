"""What does not go with a recipe's pruning: said when the recipe is checked, in one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from trainoff.errors import UserError
from trainoff.modules.optimizer_building import chosen_optimizer, optimizer_entry
from trainoff.modules.pruning import PRUNING

if TYPE_CHECKING:
    from trainoff.modules.recipe import Choice, Recipe

_SHARDED = ("fsdp", "model_parallel", "deepspeed")


def check_combination(recipe: Recipe) -> None:
    """Refuse pruning where the recipe's own strategy or optimizer does not go with it.

    Raises:
        UserError: Naming both.
    """
    choice = cast("Choice", recipe.pruning)
    label = choice.get("name") or choice["class_path"]
    strategy = str(cast("Choice", recipe.strategy).get("name")) if recipe.strategy is not None else ""
    if strategy in _SHARDED:
        raise UserError(f"{strategy} shards the parameters, and '{label}' needs them whole; use ddp", "pruning")
    method: Any = PRUNING.load(choice)
    optimizer = optimizer_entry(chosen_optimizer(recipe))
    if set(optimizer.needs) & getattr(method, "refused_needs", frozenset()):
        raise UserError(f"'{label}' {method.refusal}, which '{optimizer.name}' does not allow", "pruning")
    for regularizer in cast("Sequence[Choice]", recipe.regularizers):
        if regularizer.get("name") in getattr(method, "refused_regularizers", ()):
            raise UserError(f"'{label}' {method.refusal}, which '{regularizer['name']}' does not allow", "pruning")
