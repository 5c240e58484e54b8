"""Two recipes in one module that optimizes by hand: a generator's and a discriminator's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import lightning as L

from trainoff.errors import UserError
from trainoff.modules.applying import build_callbacks
from trainoff.modules.logged_names import find_name
from trainoff.modules.optimizer_building import chosen_optimizer, optimizer_entry
from trainoff.modules.recipe import Recipe
from trainoff.modules.regularizers.base import RecipeCallback
from trainoff.modules.regularizers.dropout import Dropout
from trainoff.modules.regularizers.early_stopping import EarlyStopping
from trainoff.modules.regularizers.gradient_centralization import GradientCentralization
from trainoff.modules.regularizers.gradient_clip import GradientClip
from trainoff.modules.regularizers.gradient_noise import GradientNoise
from trainoff.modules.regularizers.gradient_penalty import GradientPenalty
from trainoff.modules.regularizers.max_norm import MaxNorm
from trainoff.modules.regularizers.optimizer_wrappers import Lookahead
from trainoff.modules.regularizers.penalties import Lp
from trainoff.modules.regularizers.spike_guard import SpikeGuard
from trainoff.modules.regularizers.weight_averaging import AveragedWeights
from trainoff.modules.regularizers.weight_decay import WeightDecay
from trainoff.modules.regularizers.weight_matrices import MatrixPenalty
from trainoff.modules.trainer_checks import RecipeChecks

Player = Literal["generator", "discriminator"]
# In the order of the optimizers: boards read the learning rate of the first one.
PLAYERS: tuple[Player, Player] = ("generator", "discriminator")

_OF_BOTH = (
    GradientCentralization,
    GradientClip,
    GradientNoise,
    Lookahead,
    Lp,
    MatrixPenalty,
    MaxNorm,
    SpikeGuard,
    WeightDecay,
)
_OF_THE_GENERATOR = (AveragedWeights, EarlyStopping)  # its images are what is evaluated
_OF_THE_DISCRIMINATOR = (Dropout, GradientPenalty)
# What an optimizer may need beyond gradients and a step: no second evaluation of the loss, no graph of gradients.
_NEEDS_THAT_ARE_MET = {"base_optimizer", "matrices", "steps", "use_muon"}


class Recipes(NamedTuple):
    """The two recipes; one that stands for both acts on each net where it can.

    Args:
        generator: Of the generator, and of the training as a whole: its batch, precision, strategy and end.
        discriminator: Of the discriminator.
    """

    generator: Recipe
    discriminator: Recipe

    @property
    def are_one(self) -> bool:
        """Whether nothing was said of the discriminator."""
        return self.generator is self.discriminator

    def check(self) -> None:
        """Refuse what cannot act where a module optimizes by hand.

        Raises:
            UserError: Naming it.
        """
        for player, recipe in zip(PLAYERS, self, strict=True):
            where = "" if player == "generator" else "discriminator_recipe."
            if recipe.pruning is not None:
                raise UserError("a GAN's nets cannot be pruned; leave it out", f"{where}pruning")
            if recipe.microbatches > 1:
                raise UserError(
                    "a GAN optimizes by hand and takes whole batches; leave it out", f"{where}microbatches"
                )
            for field in ("compile", "activation_checkpointing"):
                if getattr(recipe, field) is not None:
                    raise UserError("a GAN's nets are computed as they are; leave it out", f"{where}{field}")
            entry = optimizer_entry(chosen_optimizer(recipe))
            if entry.needs - _NEEDS_THAT_ARE_MET:
                raise UserError(
                    f"'{entry.name}' needs more than a gradient and a step, which is all that a GAN gives",
                    f"{where}optimizer",
                )
        for field in ("batch", "precision", "strategy"):
            value = getattr(self.discriminator, field)
            if not self.are_one and value is not None and value != getattr(self.generator, field):
                raise UserError("is the whole training's; say it in recipe", f"discriminator_recipe.{field}")

    def callbacks(self) -> list[RecipeCallback]:
        """Both recipes' callbacks, each confined to its own net; :func:`penalty_of` is in the loss, not among them.

        Raises:
            UserError: For a regularizer that cannot act on a GAN, or not on the net whose recipe has it.
        """
        callbacks: list[RecipeCallback] = [RecipeChecks()]
        for player, recipe in zip(PLAYERS, self, strict=True):
            for callback in build_callbacks(recipe):
                if isinstance(callback, RecipeChecks) or not self._acts_on(player, callback):
                    continue
                callback.part = f"net.{player}"
                if not isinstance(callback, GradientPenalty):
                    callbacks.append(callback)
        return callbacks

    def _acts_on(self, player: Player, callback: RecipeCallback) -> bool:
        name = type(callback).__name__
        if isinstance(callback, _OF_BOTH) or _changes_gradients_only(callback):
            return True
        if not isinstance(callback, (*_OF_THE_GENERATOR, *_OF_THE_DISCRIMINATOR)):
            raise UserError(
                f"{name} needs a loss of inputs and targets, or a loss that can be taken again; a GAN has neither",
                "regularizers",
            )
        its = "generator" if isinstance(callback, _OF_THE_GENERATOR) else "discriminator"
        if its != player and not self.are_one:
            field = "recipe" if its == "generator" else "discriminator_recipe"
            raise UserError(f"{name} acts on a GAN's {its}; put it into {field}", "regularizers")
        return its == player


def _changes_gradients_only(callback: RecipeCallback) -> bool:
    """Whether a callback, such as a third party's, has no hook but the one before an optimizer's step."""
    kind = type(callback)
    hooks = [name for name in dir(L.Callback) if name.startswith(("on_", "setup", "teardown"))]
    return [name for name in hooks if getattr(kind, name) is not getattr(L.Callback, name)] == [
        "on_before_optimizer_step"
    ]


def penalty_of(recipe: Recipe) -> float:
    """γ of the gradient penalties in a recipe: of R1, where it is the discriminator's."""
    return sum(c.coefficient for c in build_callbacks(recipe) if isinstance(c, GradientPenalty))


class Schedules:
    """Schedules that a module steps itself: Lightning leaves them alone where it does not optimize.

    Args:
        configs: As :func:`trainoff.modules.schedule_building.lightning_scheduler` gives them.
    """

    def __init__(self, configs: Sequence[dict[str, Any]]) -> None:
        self._configs = configs

    @property
    def monitors(self) -> list[str]:
        """The logged values that some of them read."""
        return [config["monitor"] for config in self._configs if "monitor" in config]

    def step(self, interval: Literal["step", "epoch"]) -> None:
        """Step those that count steps, or epochs; not those that read a logged value."""
        for config in self._configs:
            if config["interval"] == interval and "monitor" not in config:
                config["scheduler"].step()

    def step_on_values(self, trainer: L.Trainer) -> None:
        """Let those that read a logged value have it; call it when validation has ended.

        Raises:
            UserError: Where it is not logged.
        """
        for config in self._configs:
            if "monitor" in config:
                name = find_name(config["monitor"], trainer.callback_metrics, "schedule.monitor")
                config["scheduler"].step(trainer.callback_metrics[name])
