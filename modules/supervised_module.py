"""The base of the LightningModules that learn from inputs and targets: a loss and metrics beside net and Recipe."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric, MetricCollection

from trainoff.errors import UserError
from trainoff.modules.loss_sum import LossSum
from trainoff.modules.recipe_module import RecipeModule
from trainoff.modules.task_metrics import metrics_of_tasks


class SupervisedModule(RecipeModule):
    """A net trained by a Recipe on a loss of outputs and targets; subclasses say the loss and the metrics.

    Logs ``train/loss`` (mean over the epoch, in training mode, without penalties), ``val/loss``, ``test/loss`` and
    each metric under ``val/`` and ``test/``, all as means over the terms of the loss however the batches were cut;
    of tasks in sequence also each task's own, such as ``val/accuracy_task1``.
    Arguments as for :class:`RecipeModule`.
    """

    def build_parts(self) -> None:
        """The loss, and the metrics of both evaluations."""
        self.loss_function = self.make_loss()
        self.build_metrics()
        self.validation_loss, self.test_loss = MeanMetric(), MeanMetric()
        self.train_loss = LossSum()

    def build_metrics(self) -> None:
        """The metrics of both evaluations."""
        self.validation_metrics = MetricCollection(self.make_metrics(), prefix="val/")
        self.test_metrics = self.validation_metrics.clone(prefix="test/")

    @abstractmethod
    def make_loss(self) -> nn.Module:
        """The loss as a module: mean over its terms, which are a batch's samples, or its tokens."""

    @abstractmethod
    def make_metrics(self) -> dict[str, Metric | MetricCollection]:
        """The metrics of validation and test, by short name."""

    def align(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The targets in the shape that the loss wants them in."""
        return targets

    def compare(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Outputs and targets of a batch, in the shapes that the loss and the metrics want them in."""
        inputs, targets = batch
        outputs = self(inputs)
        return outputs, self.align(outputs, targets)

    def loss_terms(self, targets: Tensor) -> Tensor | int:
        """The number of terms whose mean the loss is: samples, if nothing else is said."""
        return len(targets)

    def update_metrics(
        self, metrics: MetricCollection, batch: Any, outputs: Tensor, targets: Tensor, loss: Tensor
    ) -> None:
        """Add a batch to the metrics.

        Args:
            metrics: Those of :meth:`make_metrics`, of validation or of test.
            batch: As it came.
            outputs: What :meth:`compare` made of it.
            targets: Likewise.
            loss: The batch's mean loss.
        """
        metrics.update(outputs, targets)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss of one batch; its sum stays on the device and is read once an epoch."""
        outputs, targets = self.compare(batch)
        loss = self.loss_function(outputs, targets)
        self.train_loss.add(loss.detach(), self.loss_terms(targets))
        if self.trainer.loggers and self.global_step % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self.log("train/loss_step", loss)
        return cast(Tensor, loss)

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean training loss."""
        mean = self.train_loss.mean(self.trainer)
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

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of each task alone, where the data are a sequence of tasks."""
        if not self.trainer.sanity_checking:
            self.log_dict(metrics_of_tasks(self, self.trainer.datamodule), sync_dist=True)  # type: ignore[attr-defined]

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Loss and metrics on test."""
        self._evaluate(batch, self.test_loss, self.test_metrics)
        self.log("test/loss", self.test_loss)
        self.log_dict(cast(Mapping[str, Any], self.test_metrics))

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The net's outputs; the batch is inputs, or inputs and targets."""
        return cast(Tensor, self(batch[0] if isinstance(batch, (tuple, list)) else batch))

    def _evaluate(self, batch: Any, mean_loss: MeanMetric, metrics: MetricCollection) -> None:
        outputs, targets = self.compare(batch)
        loss = self.loss_function(outputs, targets)
        mean_loss.update(loss, self.loss_terms(targets))
        self.update_metrics(metrics, batch, outputs, targets, loss)


def refuse_token_targets(batch: Any, needs: str) -> None:
    """Refuse sequences of token numbers with a target for each token; looks at shapes and types alone.

    Args:
        batch: Inputs and targets.
        needs: What the module needs, for the message.

    Raises:
        UserError: Naming the modules that learn from them.
    """
    parts = batch[:2] if isinstance(batch, (tuple, list)) else ()
    if len(parts) == 2 and all(isinstance(part, Tensor) and _is_tokens(part) for part in parts):
        shapes = " and ".join(str(tuple(part.shape)) for part in parts)
        raise UserError(
            f"{needs}; here are token numbers {shapes}, which language_model, masked_language_model or seq2seq learns",
            "module",
        )


def _is_tokens(values: Tensor) -> bool:
    return values.ndim == 2 and not values.is_floating_point() and values.shape[1] > 1
