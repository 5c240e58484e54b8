"""Whether a Trainer and a DataModule give what a recipe asks for: said at the start of fit, never found out later."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import lightning as L
from lightning.pytorch.strategies import ModelParallelStrategy

from trainoff.errors import UserError
from trainoff.modules.batch_setting import check_batch_of_module, resume_loaders, set_batch
from trainoff.modules.logged_names import resolve_monitors
from trainoff.modules.optimizer_building import check_supported, chosen_optimizer, optimizer_entry
from trainoff.modules.process_group import destroy_process_group_at_exit
from trainoff.modules.regularizers.base import RecipeCallback
from trainoff.modules.sharded_recipes import check_sharded
from trainoff.modules.sharding import check_shardable
from trainoff.registry import arguments_of

if TYPE_CHECKING:
    from trainoff.modules.optimizers import OptimizerEntry
    from trainoff.modules.recipe import Choice, Recipe


class RecipeChecks(RecipeCallback):
    """Stops a fit whose Trainer lacks or contradicts what the recipe asks for, and hands over the batch size."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check the Trainer, then set the DataModule's batch.

        Raises:
            UserError: Naming the Trainer's argument that differs, or the missing ``batch_size``.
        """
        if trainer.world_size > 1:
            destroy_process_group_at_exit()
        if stage != "fit":
            return
        recipe = cast("Recipe", pl_module.recipe)
        check_trainer(recipe, trainer)
        if isinstance(trainer.strategy, ModelParallelStrategy):
            check_shardable(pl_module, tensor_parallel_size=1)
        set_batch(recipe, trainer, pl_module)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check what is known only after the module's own ``setup``.

        Raises:
            UserError: Where the batch is larger than the data.
        """
        check_batch_of_module(cast("Recipe", pl_module.recipe), trainer, pl_module)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go on within an epoch; the first hook after Lightning has restored how far the training is."""
        resume_loaders(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find the values that schedules read, before Lightning looks for them by name.

        Raises:
            UserError: Where one is not logged.
        """
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            resolve_monitors(trainer)


def check_trainer(recipe: Recipe, trainer: L.Trainer) -> None:
    """Compare the Trainer with :meth:`Recipe.trainer_arguments`; raises :class:`UserError` where they differ."""
    advice = "make it with L.Trainer(**recipe.trainer_arguments(), ...)"
    if recipe.precision == "16-mixed" and trainer.strategy.root_device.type == "cpu":
        raise UserError("16-mixed needs an accelerator; on a CPU use bf16-mixed", "precision")
    if recipe.precision is not None and trainer.precision != recipe.precision:
        raise UserError(
            f"the recipe's is {recipe.precision}, the Trainer's {trainer.precision}; {advice}", "precision"
        )
    accumulated = trainer.accumulate_grad_batches
    # A recipe that says the batch says all of it: accumulating would make it larger.
    if (recipe.microbatches > 1 or recipe.batch is not None) and accumulated != recipe.microbatches:
        raise UserError(
            f"the recipe's are {recipe.microbatches}, the Trainer accumulates {accumulated}; {advice}",
            "microbatches",
        )
    _check_needs(optimizer_entry(chosen_optimizer(recipe)), trainer)
    if recipe.strategy is not None:
        _check_strategy(recipe, trainer, advice)
    if isinstance(trainer.strategy, ModelParallelStrategy):
        check_sharded(recipe, "model_parallel")


def _check_needs(entry: OptimizerEntry, trainer: L.Trainer) -> None:
    """What an optimizer needs, and a Trainer cannot give it together with something else."""
    check_supported(entry)
    reason = ""
    if "closure" in entry.needs:
        reason = "reads the loss or evaluates it several times a step"
    elif "create_graph" in entry.needs:
        reason = "differentiates twice"
    if reason and trainer.accumulate_grad_batches > 1:
        raise UserError(f"'{entry.name}' {reason} and cannot accumulate", "microbatches")
    if reason and str(trainer.precision).startswith("16"):
        raise UserError(f"'{entry.name}' {reason} and cannot run under a gradient scaler; use bf16-mixed", "precision")
    if "create_graph" in entry.needs and trainer.world_size > 1:
        raise UserError(f"'{entry.name}' {reason}, which works in one process only", "strategy")


def _check_strategy(recipe: Recipe, trainer: L.Trainer, advice: str) -> None:
    from trainoff.modules.strategies import STRATEGIES

    choice = cast("Choice", recipe.strategy)
    options = arguments_of(choice)
    if choice.get("name") != "auto" and not isinstance(trainer.strategy, STRATEGIES.load(choice)):
        label = choice.get("name") or choice["class_path"]
        raise UserError(
            f"the recipe's is {label}, the Trainer's {type(trainer.strategy).__name__}; {advice}", "strategy"
        )
    for key, actual in (("devices", trainer.num_devices), ("nodes", trainer.num_nodes)):
        if isinstance(options.get(key), int) and options[key] != actual:
            raise UserError(f"the recipe's are {options[key]}, the Trainer's {actual}; {advice}", f"strategy.{key}")
    if options.get("sync_batchnorm"):
        if getattr(trainer.strategy, "_layer_sync", None) is None:
            raise UserError(f"the recipe has it, the Trainer has not; {advice}", "strategy.sync_batchnorm")
        if trainer.strategy.root_device.type == "cpu":
            raise UserError("torch's SyncBatchNorm runs on accelerators only; leave it out", "strategy.sync_batchnorm")
