"""What of a recipe works on parameters that are sharded over devices; all else is refused in one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from trainoff.errors import UserError
from trainoff.modules.optimizer_building import chosen_optimizer
from trainoff.modules.strategy_requirements import mesh_of, strategy_name
from trainoff.registry import arguments_of

if TYPE_CHECKING:
    from trainoff.modules.recipe import Choice, Recipe

SHARDED_STRATEGIES = ("fsdp", "model_parallel", "deepspeed")
# Each entry by itself, or (muon) through operations that torch's sharded tensors have.
OPTIMIZERS_ON_SHARDS = (
    "sgd", "adam", "adamw", "adagrad", "adadelta", "adamax", "nadam", "radam", "rmsprop", "asgd", "muon",
)  # fmt: skip
REGULARIZERS_ON_SHARDS = (
    "l1", "l2", "lp", "elastic_net", "weight_decay", "dropout", "drop_path", "label_smoothing", "confidence_penalty",
    "curriculum", "input_noise", "cutout", "mixup", "cutmix", "gradient_clip", "early_stopping",
)  # fmt: skip
_NOT_IN_SPLIT_LAYERS = ("dropout", "drop_path")
_WHOLE_TENSORS = ("muon", "gradient_clip")  # of which fsdp and deepspeed show each process a flat piece


def check_sharded(recipe: Recipe, strategy: str | None = None) -> None:
    """Refuse an optimizer or a regularizer that needs the parameters whole, where the strategy shards them.

    What is named by its class path is the user's own to know.

    Args:
        recipe: Which.
        strategy: The Trainer's, where the recipe has none.

    Raises:
        UserError: Naming both.
    """
    name = strategy or strategy_name(recipe)
    if name not in SHARDED_STRATEGIES:
        return
    whole = () if name == "model_parallel" else _WHOLE_TENSORS
    optimizer = str(chosen_optimizer(recipe).get("name", ""))
    allowed = [each for each in OPTIMIZERS_ON_SHARDS if each not in whole]
    if optimizer and optimizer not in allowed:
        raise UserError(f"{name} shards the parameters; '{optimizer}' needs them whole, {', '.join(allowed)} do not",
                        "optimizer")  # fmt: skip
    for number, choice in enumerate(cast("Sequence[Choice]", recipe.regularizers)):
        regularizer = str(choice.get("name", ""))
        where = f"regularizers[{number}]"
        if regularizer and (regularizer not in REGULARIZERS_ON_SHARDS or regularizer in whole):
            raise UserError(f"{name} shards the parameters, and '{regularizer}' needs them whole; use ddp", where)
        if regularizer in _NOT_IN_SPLIT_LAYERS and name == "model_parallel" and _splits_layers(recipe):
            raise UserError(f"split layers would draw '{regularizer}' apart; use data_parallel_size", where)
        if regularizer == "gradient_clip" and arguments_of(choice).get("by") == "unit":
            raise UserError(f"{name} shards the parameters, and clipping by unit needs them whole", f"{where}.by")


def _splits_layers(recipe: Recipe) -> bool:
    return recipe.strategy is not None and mesh_of(recipe)[1] > 1
