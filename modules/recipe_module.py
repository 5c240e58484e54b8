"""The base of trainoff's LightningModules: a net and a Recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn

from trainoff.errors import UserError
from trainoff.modules import applying
from trainoff.modules.net_building import build_net, check_net, logits_of, sizes_of
from trainoff.modules.recipe import Choice, Recipe
from trainoff.modules.sharding import shard_net
from trainoff.registry import normalise


class RecipeModule(L.LightningModule):
    """A net trained by a Recipe; subclasses say how.

    Args:
        net: A name (``mlp``), ``{name: mlp, hidden: [64]}``, a class path, or any ``nn.Module``.
        recipe: How to train it: a Recipe, names such as ``adamw-cosine``, or a mapping of its fields.
        input_shape: Of one sample, without the batch; taken from the DataModule when the Trainer starts.
        output_size: Number of outputs; likewise.
        options: A subclass's further arguments, which are kept in the hyperparameters. Those that :attr:`from_data`
            names and that are None are taken from the DataModule too.

    Raises:
        UserError: For an unknown net or recipe; where a checkpoint's net was an instance that is not given again.
    """

    net: nn.Module | None
    from_data: ClassVar[tuple[str, ...]] = ()  # arguments that the DataModule gives, as attributes of these names
    shards_its_net: ClassVar[bool] = True  # under Lightning's ModelParallelStrategy: the net, as one

    def __init__(
        self,
        # A bare dict: of a dict[str, Any], LightningCLI builds the values that have a class_path.
        net: str | dict | nn.Module | None = "mlp",  # type: ignore[type-arg]
        recipe: Recipe | str | dict[str, Any] = Recipe(),  # noqa: B008 (immutable)
        input_shape: Sequence[int] | None = None,
        output_size: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if net is None:
            raise UserError(
                "its net was given as an instance and is not in the checkpoint: "
                f"{type(self).__name__}.load_from_checkpoint(path, net=MyNet())",
                "net",
            )
        given = Recipe.of(recipe)
        given.validate()
        self.net_choice = None if isinstance(net, nn.Module) else normalise(net, "net")
        self.net = net if isinstance(net, nn.Module) else None
        if self.net_choice is not None:
            check_net(self.net_choice)
        self.save_hyperparameters(
            {
                "net": self.net_choice,
                "recipe": given.to_dict(),
                "input_shape": None if input_shape is None else list(input_shape),
                "output_size": output_size,
                **options,
            }
        )
        self.build_parts()
        self.take_recipe(given)
        if self.net is None and input_shape is not None and output_size is not None:
            self._build_net(input_shape, output_size)
        if self.net is not None:
            self.prepare()

    def build_parts(self) -> None:
        """Build what the module has beside its net: losses, metrics. Called before the recipe takes hold."""

    def known_arguments(self) -> dict[str, Any]:
        """Arguments beside the sizes for a net given by name, where it has arguments of these names."""
        return {}

    def take_recipe(self, recipe: Recipe) -> None:
        """Attach the recipe and its callbacks."""
        applying.take_recipe(recipe, self)

    def prepare(self) -> None:
        """Initialise the net and freeze what the recipe says; once a recipe."""
        applying.prepare(self)

    def use_recipe(self, recipe: Recipe) -> None:
        """Replace the recipe, in the hyperparameters too; the net is initialised anew where it asks for that."""
        self.take_recipe(recipe)
        self.hparams["recipe"] = recipe.to_dict()
        if self.net is not None:
            self.prepare()

    def configure_model(self) -> None:
        """Build a net given by name; what the DataModule says of sizes and the like is kept in the hyperparameters.

        Raises:
            UserError: Where no sizes are to be had.
        """
        if self._trainer is not None:  # loading a checkpoint comes here without one
            datamodule = getattr(self.trainer, "datamodule", None)
            for name in self.from_data:
                if self.hparams.get(name) is None:
                    self.hparams[name] = getattr(datamodule, name, None)
        if self.net is None:
            input_shape, output_size = sizes_of(self)
            self.hparams.update(input_shape=list(input_shape), output_size=output_size)
            self._build_net(input_shape, output_size)
        self.prepare()
        if self.net is not None and self._trainer is not None:
            self.shard(self.net)

    def shard(self, net: nn.Module) -> None:
        """Shard the net over the Trainer's devices, where its strategy does so."""
        if isinstance(self.trainer.strategy, ModelParallelStrategy):
            shard_net(self.trainer.strategy, net)

    def configure_optimizers(self) -> Any:
        """The recipe's optimizer and schedule."""
        return applying.configure_optimizers(self)

    def configure_callbacks(self) -> Sequence[Callback]:
        """The recipe's callbacks, the same ones at every call."""
        applying.refuse_replacement(self.trainer.callbacks, applying.recipe_callbacks(self))  # type: ignore[attr-defined]
        return applying.recipe_callbacks(self)

    def forward(self, *inputs: Any) -> Any:
        """The net's outputs."""
        if self.net is None:
            raise UserError("the net is built when a Trainer starts; give input_shape and output_size to have it now")
        return logits_of(self.net(*inputs))

    def _build_net(self, input_shape: Sequence[int], output_size: int) -> None:
        self.net = build_net(cast(Choice, self.net_choice), input_shape, output_size, self.known_arguments())
