"""Numbers from inputs."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric, MetricCollection, R2Score

from trainoff.modules.supervised_module import SupervisedModule, refuse_token_targets


class Regressor(SupervisedModule):
    """A net with one output per target, trained on the mean squared error.

    Inputs (batch, *input_shape), targets (batch,) or (batch, output_size). Logs ``mse``, ``mae`` and ``r2``, in the
    units of the DataModule's targets (trainoff's are standardised).
    """

    def compare(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Outputs and targets (batch, output_size).

        Raises:
            UserError: For tokens with a target each, which other modules learn.
        """
        refuse_token_targets(batch, "a regressor needs numbers to come close to")
        return super().compare(batch)

    def make_loss(self) -> nn.Module:
        """Mean squared error over samples and targets."""
        return nn.MSELoss()

    def make_metrics(self) -> dict[str, Metric | MetricCollection]:
        """Mean squared error, mean absolute error, coefficient of determination."""
        return {"mse": MeanSquaredError(), "mae": MeanAbsoluteError(), "r2": R2Score()}

    def align(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Targets (batch,) as (batch, 1), and in the outputs' type."""
        return targets.reshape(outputs.shape).to(outputs.dtype)
