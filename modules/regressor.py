"""Numbers from inputs."""

from __future__ import annotations

from torch import Tensor, nn
from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric, MetricCollection, R2Score

from trainoff.modules.supervised_module import SupervisedModule


class Regressor(SupervisedModule):
    """A net with one output per target, trained on the mean squared error.

    Inputs (batch, *input_shape), targets (batch,) or (batch, output_size). Logs ``mse``, ``mae`` and ``r2``, in the
    units of the DataModule's targets (trainoff's are standardised).
    """

    def make_loss(self) -> nn.Module:
        """Mean squared error over samples and targets."""
        return nn.MSELoss()

    def make_metrics(self) -> dict[str, Metric | MetricCollection]:
        """Mean squared error, mean absolute error, coefficient of determination."""
        return {"mse": MeanSquaredError(), "mae": MeanAbsoluteError(), "r2": R2Score()}

    def align(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Targets (batch,) as (batch, 1), and in the outputs' type."""
        return targets.reshape(outputs.shape).to(outputs.dtype)
