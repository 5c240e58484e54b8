"""Checking a recipe's arguments against the signatures of what they are for, before anything is trained."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import cast

from trainoff.errors import UserError
from trainoff.modules.applying import build_callbacks
from trainoff.modules.initialisation import INITIALISATIONS
from trainoff.modules.optimizer_building import (
    check_supported,
    chosen_optimizer,
    optimizer_entry,
    rest_choice,
    wrapped_choice,
)
from trainoff.modules.optimizers import OPTIMIZERS
from trainoff.modules.parameter_groups import check_patterns
from trainoff.modules.pruning import PRUNING
from trainoff.modules.recipe import Choice, Recipe
from trainoff.modules.regularizers import REGULARIZERS
from trainoff.modules.regularizers.base import RecipeCallback
from trainoff.modules.regularizers.batch_augmentation import PairMixing
from trainoff.modules.regularizers.gradient_penalty import GradientPenalty
from trainoff.modules.regularizers.weight_averaging import AveragedWeights
from trainoff.modules.schedule_building import build_schedule, split_choice
from trainoff.modules.schedule_functions import Plateau
from trainoff.modules.schedules import SCHEDULES
from trainoff.modules.signatures import bind_arguments
from trainoff.registry import arguments_of


def validate_recipe(recipe: Recipe) -> None:
    """Raise :class:`UserError` for the first argument that does not fit; ``where`` is the dotted key."""
    _validate_optimizer(cast(Choice, recipe.optimizer), "optimizer")
    wrapped_choice(chosen_optimizer(recipe))  # refuses an inner optimizer with needs of its own
    _validate_schedule(cast(Choice, recipe.schedule))
    initialisation = cast(Choice, recipe.initialisation)
    bind_arguments(
        INITIALISATIONS.load(initialisation), arguments_of(initialisation), "initialisation", given={"module"}
    )
    for number, choice in enumerate(recipe.regularizers):
        regularizer = cast(Choice, choice)
        bind_arguments(REGULARIZERS.load(regularizer), arguments_of(regularizer), f"regularizers[{number}]")
    if recipe.pruning is not None:
        pruning = cast(Choice, recipe.pruning)
        bind_arguments(PRUNING.load(pruning), arguments_of(pruning), "pruning")
    callbacks = build_callbacks(recipe)
    _refuse_contradictions(callbacks)
    if recipe.compile is not None:
        _refuse_second_derivatives(recipe, callbacks)
    check_patterns(recipe.parameters)


def _refuse_contradictions(callbacks: Sequence[RecipeCallback]) -> None:
    """Two regularizers of which the second undoes, or does again, what the first has done."""
    for kind, verb in ((AveragedWeights, "put their average in the weights' place"), (PairMixing, "mix each batch")):
        names = [type(callback).__name__.lower() for callback in callbacks if isinstance(callback, kind)]
        if len(names) > 1:
            raise UserError(f"{' and '.join(names)} would both {verb}; keep one", "regularizers")


def _refuse_second_derivatives(recipe: Recipe, callbacks: Sequence[RecipeCallback]) -> None:
    """A compiled net's gradient cannot be differentiated again."""
    entry = optimizer_entry(chosen_optimizer(recipe))
    twice = [entry.name] if "create_graph" in entry.needs else []
    twice += ["gradient_penalty" for callback in callbacks if isinstance(callback, GradientPenalty)]
    if twice:
        raise UserError(f"'{twice[0]}' differentiates twice, which a compiled net does not allow", "compile")


def _validate_optimizer(choice: Choice, where: str) -> None:
    entry = optimizer_entry(choice)
    check_supported(entry)
    factory = OPTIMIZERS.load(choice)
    inner = {"base_optimizer": wrapped_choice(choice), "auxiliary": rest_choice(choice)}
    extra = {key for key, value in inner.items() if value is not None}
    if "base_optimizer" in extra:
        extra.add("lr")
    arguments = {key: value for key, value in arguments_of(choice).items() if key not in extra}
    # The first argument, whatever it is called, takes the parameters, a module or another optimizer.
    given = {next(iter(inspect.signature(factory).parameters)), "params", "model", "base_optimizer"}
    if "num_iterations" not in arguments and "steps" in entry.needs:
        given.add("num_iterations")
    # The library's classes take any keyword, and do nothing with one that they do not know.
    is_library = entry.target.startswith("pytorch_optimizer")
    bind_arguments(factory, arguments, where, given=given, extra=extra, closed=is_library)
    for key, value in inner.items():
        if value is not None:
            _validate_optimizer(value, f"{where}.{key}")


def _validate_schedule(choice: Choice) -> None:
    factory = SCHEDULES.load(choice)
    arguments, _, _ = split_choice(choice)
    shipped = "name" in choice
    bind_arguments(
        factory, arguments, "schedule", given=set() if shipped else {"optimizer"}, extra={"warmup", "interval"}
    )
    if factory is Plateau:
        Plateau(**arguments)
    elif shipped:
        build_schedule(choice, total=1)
