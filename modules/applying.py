"""How a recipe takes hold of a LightningModule: its optimizer, its callbacks, and the checks when fit starts.

The hooks of a foreign module are replaced on the instance by ``functools.partial`` of functions of this file. A
bound method would pickle without an error and come back as the module's own hook, so that a spawned process
trained without the recipe.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.callbacks import EarlyStopping as LightningEarlyStopping
from torch import nn
from torch.optim import Optimizer

from trainoff.errors import UserError
from trainoff.modules.activation_checkpointing import clear_activation_checkpointing, set_activation_checkpointing
from trainoff.modules.compilation import compile_nets
from trainoff.modules.initialisation_functions import initialise
from trainoff.modules.microbatches import MicrobatchAveraging
from trainoff.modules.optimizer_adapters import OptimizerModes, backward_with_graph
from trainoff.modules.optimizer_building import build_optimizer, chosen_optimizer, decays_apart, optimizer_entry
from trainoff.modules.parameter_groups import freeze
from trainoff.modules.pruning import PRUNING
from trainoff.modules.pruning.combinations import check_combination
from trainoff.modules.regularizers import REGULARIZERS
from trainoff.modules.regularizers.base import Phase, RecipeCallback
from trainoff.modules.schedule_building import lightning_scheduler
from trainoff.modules.trainer_checks import RecipeChecks
from trainoff.registry import Registry, arguments_of

if TYPE_CHECKING:
    from trainoff.modules.recipe import Choice, Recipe


def apply_recipe(recipe: Recipe, module: L.LightningModule) -> None:
    """Make the instance train by the recipe; see :meth:`Recipe.apply`."""
    if isinstance(module, type):
        raise UserError(f"{module.__name__} is a class; give an instance, such as recipe.apply({module.__name__}())")
    if not isinstance(module, L.LightningModule):
        raise UserError(f"{type(module).__name__} is not a LightningModule")
    recipe.validate()
    use_recipe = getattr(module, "use_recipe", None)
    if callable(use_recipe):  # one of trainoff's own
        use_recipe(recipe)
        return
    if not module.automatic_optimization:
        raise UserError(f"{type(module).__name__} optimizes by hand; a recipe acts in automatic optimization only")
    keep_own_hook(module, "configure_callbacks", configure_callbacks)
    keep_own_hook(module, "configure_model", configure_model)
    take_recipe(recipe, module)
    module.configure_optimizers = functools.partial(configure_optimizers, module)  # type: ignore[method-assign]
    module.configure_callbacks = functools.partial(configure_callbacks, module)  # type: ignore[method-assign]
    on_instance = "own_configure_model" in vars(module)
    if not on_instance and type(module).configure_model is L.LightningModule.configure_model:
        prepare(module)
    else:  # there may be no net yet
        module.configure_model = functools.partial(configure_model, module)  # type: ignore[method-assign]


def take_recipe(recipe: Recipe, module: L.LightningModule, callbacks: Sequence[RecipeCallback] | None = None) -> None:
    """Attach the recipe and its callbacks, built once: callbacks built anew at each fit or test lose their state.

    Args:
        recipe: How the module is trained.
        module: That is to be trained.
        callbacks: In place of the recipe's own.

    Raises:
        UserError: Where the optimizer's way of differentiating is not to be had.
    """
    _set_backward(recipe, module)
    for name, parameter in module.named_parameters():
        if name in vars(module).get("recipe_frozen", ()):  # by another recipe
            parameter.requires_grad_(True)
    module.recipe_frozen = []  # type: ignore[assignment]
    module.recipe_is_prepared = False  # type: ignore[assignment]
    module.recipe = recipe  # type: ignore[assignment]
    # An identity that survives copies and pickles, by which callbacks know their module.
    module.recipe_owner = uuid.uuid4().hex  # type: ignore[assignment]
    module.recipe_callbacks = build_callbacks(recipe) if callbacks is None else list(callbacks)  # type: ignore[assignment]
    for callback in recipe_callbacks(module):
        callback.owner = cast(str, module.recipe_owner)


def prepare(module: L.LightningModule) -> None:
    """Initialise the net, freeze and compile what the recipe says, once; the net has to be there."""
    if module.recipe_is_prepared:
        return
    module.recipe_is_prepared = True  # type: ignore[assignment]
    recipe = cast("Recipe", module.recipe)
    module.recipe_frozen = initialise_and_freeze(module, recipe)  # type: ignore[assignment]
    set_execution(module, recipe)


def set_execution(module: L.LightningModule, recipe: Recipe) -> None:
    """How the module's nets are computed: with their activations kept or not, compiled or not."""
    clear_activation_checkpointing(module)
    checkpointing = recipe.activation_checkpointing
    if checkpointing is not None:
        set_activation_checkpointing(module, checkpointing["match"] if isinstance(checkpointing, dict) else None)
    compile_nets(module, {} if recipe.compile is True else recipe.compile or None)


def initialise_and_freeze(module: nn.Module, recipe: Recipe) -> list[str]:
    """What a recipe does to a module, or a part of one, before it is trained; returns the names of what is frozen."""
    initialise(module, cast("Choice", recipe.initialisation))
    return freeze(module, recipe.parameters)


def keep_own_hook(module: L.LightningModule, name: str, ours: Callable[..., Any]) -> None:
    """Remember a hook that the user has put on the instance, so that ours calls it in place of the class's."""
    present = vars(module).get(name)
    if present is not None and getattr(present, "func", None) is not ours:
        vars(module)[f"own_{name}"] = present


def configure_model(module: L.LightningModule) -> None:
    """Lightning's hook, before a strategy wraps the module: the module's own, then what the recipe does to the net."""
    on_instance = vars(module).get("own_configure_model")
    if on_instance is None:
        type(module).configure_model(module)
    else:
        on_instance()
    prepare(module)


def _set_backward(recipe: Recipe, module: L.LightningModule) -> None:
    entry = optimizer_entry(chosen_optimizer(recipe))
    vars(module).pop("backward", None)  # of another recipe
    if "create_graph" not in entry.needs:
        return
    if type(module).backward is not L.LightningModule.backward:
        raise UserError(
            f"'{entry.name}' differentiates twice, and {type(module).__name__} has a backward of its own", "optimizer"
        )
    module.backward = functools.partial(backward_with_graph, module)  # type: ignore[method-assign]


def recipe_callbacks(module: L.LightningModule) -> list[RecipeCallback]:
    """The callbacks that the module's recipe brought."""
    return cast("list[RecipeCallback]", module.recipe_callbacks)


def configure_optimizers(module: L.LightningModule) -> Any:
    """Lightning's hook: the recipe's optimizer and schedule."""
    optimizer, scheduler = optimizer_and_scheduler(cast("Recipe", module.recipe), module, module.trainer)
    return optimizer if scheduler is None else {"optimizer": optimizer, "lr_scheduler": scheduler}


def optimizer_and_scheduler(
    recipe: Recipe, module: nn.Module, trainer: L.Trainer
) -> tuple[Optimizer, dict[str, Any] | None]:
    """A recipe's optimizer over a module's parameters, and Lightning's description of its schedule.

    Args:
        recipe: Whose.
        module: Or a part of one.
        trainer: That will train it.
    """
    total_steps = trainer.estimated_stepping_batches
    optimizer = build_optimizer(recipe, module, str(trainer.precision), total_steps)
    epochs = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else None
    is_trial = bool(trainer.fast_dev_run)  # type: ignore[attr-defined]
    scheduler = lightning_scheduler(cast("Choice", recipe.schedule), optimizer, total_steps, epochs, is_trial)
    if scheduler is not None and "monitor" in scheduler:  # it has news only where there was a validation
        scheduler["frequency"] = trainer.check_val_every_n_epoch or 1
    return optimizer, scheduler


def configure_callbacks(module: L.LightningModule) -> list[Callback]:
    """Lightning's hook: the callbacks of the module's own class first, then the recipe's.

    Raises:
        UserError: Where Lightning would silently replace a callback that the user gave the Trainer.
    """
    on_instance = vars(module).get("own_configure_callbacks")
    own = type(module).configure_callbacks(module) if on_instance is None else on_instance()
    owns = list(own) if isinstance(own, Sequence) else [own]
    refuse_replacement([*module.trainer.callbacks, *owns], recipe_callbacks(module))  # type: ignore[attr-defined]
    return [*owns, *recipe_callbacks(module)]


def refuse_replacement(given: Sequence[Callback], callbacks: Sequence[RecipeCallback]) -> None:
    """A callback of the same class, or a parent, would be dropped, or would share its place in checkpoints."""
    for theirs in given:
        for ours in callbacks:
            if theirs is not ours and type(theirs) is not Callback and isinstance(ours, type(theirs)):
                if isinstance(theirs, RecipeCallback) and theirs.owner is not None:
                    continue  # left from a fit of another module, or of this one: Lightning replaces it rightly
                name = "early_stopping" if isinstance(ours, LightningEarlyStopping) else type(ours).__name__
                raise UserError(
                    f"the Trainer or the module has a {type(theirs).__name__} and the recipe has {name}: "
                    "Lightning would keep one only; keep one of the two",
                    "regularizers",
                )


def build_callbacks(recipe: Recipe) -> list[RecipeCallback]:
    """The recipe's callbacks in the order in which their effects follow one another."""
    regularizers = []
    decoupled = decays_apart(recipe)
    for number, choice in enumerate(cast("Sequence[Choice]", recipe.regularizers)):
        if choice.get("name") == "weight_decay" and decoupled:
            continue  # the optimizer has it as an argument
        regularizers.append(_build_callback(choice, REGULARIZERS, f"regularizers[{number}]"))
    if recipe.pruning is not None:
        check_combination(recipe)
        regularizers.append(_build_callback(cast("Choice", recipe.pruning), PRUNING, "pruning"))
    regularizers.sort(key=lambda callback: getattr(callback, "phase", Phase.GRADIENT))
    averaging = [MicrobatchAveraging(recipe.microbatches)] if recipe.microbatches > 1 else []
    modes = [OptimizerModes()] if "train_mode" in optimizer_entry(chosen_optimizer(recipe)).needs else []
    return [RecipeChecks(), *modes, *averaging, *regularizers]


def _build_callback(choice: Choice, registry: Registry[Any], where: str) -> RecipeCallback:
    factory: Callable[..., Any] = registry.load(choice)
    try:
        callback = factory(**arguments_of(choice))
    except UserError as error:
        raise UserError(error.message, f"{where}.{error.where}".rstrip(".")) from error
    except TypeError as error:
        raise UserError(str(error).replace(f"{getattr(factory, '__name__', '')}.__init__() ", ""), where) from error
    if not isinstance(callback, Callback):
        raise UserError(f"{type(callback).__name__} is not a lightning Callback", where)
    return cast(RecipeCallback, callback)
