"""The base of trainoff's LightningModules: a net, a loss, metrics and a Recipe."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, cast

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric, MetricCollection

from trainoff.errors import UserError
from trainoff.modules import applying
from trainoff.modules.loss_sum import LossSum
from trainoff.modules.net_building import build_net, check_net, logits_of, sizes_of
from trainoff.modules.recipe import Choice, Recipe
from trainoff.registry import normalise


class RecipeModule(L.LightningModule):
    """A net trained by a Recipe; subclasses say the loss and the metrics.

    Logs ``train/loss`` (mean over the epoch, in training mode, without penalties), ``val/loss``, ``test/loss`` and
    each metric under ``val/`` and ``test/``, all as means over samples however the batches were cut.

    Args:
        net: A name (``mlp``), ``{name: mlp, hidden: [64]}``, a class path, or any ``nn.Module``.
        recipe: How to train it: a Recipe, names such as ``adamw-cosine``, or a mapping of its fields.
        input_shape: Of one sample, without the batch; taken from the DataModule when the Trainer starts.
        output_size: Number of outputs; likewise.

    Raises:
        UserError: For an unknown net or recipe; where a checkpoint's net was an instance that is not given again.
    """

    net: nn.Module | None

    def __init__(
        self,
        # A bare dict: of a dict[str, Any], LightningCLI builds the values that have a class_path.
        net: str | dict | nn.Module | None = "mlp",  # type: ignore[type-arg]
        recipe: Recipe | str | dict[str, Any] = Recipe(),  # noqa: B008 (immutable)
        input_shape: Sequence[int] | None = None,
        output_size: int | None = None,
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
        self.loss_function = self.make_loss()
        self.validation_metrics = MetricCollection(self.make_metrics(), prefix="val/")
        self.test_metrics = self.validation_metrics.clone(prefix="test/")
        self.validation_loss, self.test_loss = MeanMetric(), MeanMetric()
        self.train_loss = LossSum()
        applying.take_recipe(given, self)
        self.save_hyperparameters(
            {
                "net": self.net_choice,
                "recipe": given.to_dict(),
                "input_shape": None if input_shape is None else list(input_shape),
                "output_size": output_size,
            }
        )
        if self.net is None and input_shape is not None and output_size is not None:
            self.net = build_net(cast(Choice, self.net_choice), input_shape, output_size)
        if self.net is not None:
            applying.prepare(self)

    @abstractmethod
    def make_loss(self) -> nn.Module:
        """The loss as a module: mean over the samples of a batch."""

    @abstractmethod
    def make_metrics(self) -> dict[str, Metric | MetricCollection]:
        """The metrics of validation and test, by short name."""

    def align(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The targets in the shape that the loss wants them in."""
        return targets

    def use_recipe(self, recipe: Recipe) -> None:
        """Replace the recipe, in the hyperparameters too; the net is initialised anew where it asks for that."""
        self.hparams["recipe"] = recipe.to_dict()
        if self.net is not None:
            applying.prepare(self)

    def configure_model(self) -> None:
        """Build a net given by name, its sizes taken from the DataModule and kept in the hyperparameters.

        Raises:
            UserError: Where no sizes are to be had.
        """
        if self.net is None:
            input_shape, output_size = sizes_of(self)
            self.hparams.update(input_shape=list(input_shape), output_size=output_size)
            self.net = build_net(cast(Choice, self.net_choice), input_shape, output_size)
        applying.prepare(self)

    def configure_optimizers(self) -> Any:
        """The recipe's optimizer and schedule."""
        return applying.configure_optimizers(self)

    def configure_callbacks(self) -> Sequence[Callback]:
        """The recipe's callbacks, the same ones at every call."""
        applying.refuse_replacement(self.trainer.callbacks, applying.recipe_callbacks(self))  # type: ignore[attr-defined]
        return applying.recipe_callbacks(self)

    def forward(self, inputs: Tensor) -> Tensor:
        """The net's outputs: (batch, *input_shape) → (batch, output_size)."""
        if self.net is None:
            raise UserError("the net is built when a Trainer starts; give input_shape and output_size to have it now")
        return logits_of(self.net(inputs))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss of one batch; its sum stays on the device and is read once an epoch."""
        inputs, targets = batch
        outputs = self(inputs)
        loss = self.loss_function(outputs, self.align(outputs, targets))
        self.train_loss.add(loss.detach(), len(inputs))
        if self.trainer.loggers and self.global_step % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self.log("train/loss_step", loss)
        return cast(Tensor, loss)

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean training loss."""
        mean = self.train_loss.mean()
        if mean is not None:
            self.log("train/loss", mean, prog_bar=True, sync_dist=True)
        self.train_loss = LossSum()

    def on_validation_start(self) -> None:
        """Begin with fresh metrics: those that ``trainer.validate`` leaves behind cannot be updated in a later fit."""
        self.validation_loss.reset()
        self.validation_metrics.reset()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Loss and metrics on validation."""
        self._evaluate(batch, self.validation_loss, self.validation_metrics)
        self.log("val/loss", self.validation_loss, prog_bar=True)
        self.log_dict(cast(Mapping[str, Any], self.validation_metrics), prog_bar=True)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Loss and metrics on test."""
        self._evaluate(batch, self.test_loss, self.test_metrics)
        self.log("test/loss", self.test_loss)
        self.log_dict(cast(Mapping[str, Any], self.test_metrics))

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The net's outputs; the batch is inputs, or inputs and targets."""
        return cast(Tensor, self(batch[0] if isinstance(batch, (tuple, list)) else batch))

    def _evaluate(self, batch: Any, mean_loss: MeanMetric, metrics: MetricCollection) -> None:
        inputs, targets = batch
        outputs = self(inputs)
        targets = self.align(outputs, targets)
        mean_loss.update(self.loss_function(outputs, targets), len(inputs))
        metrics.update(outputs, targets)
