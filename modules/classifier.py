"""Classes from inputs."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from trainoff.modules.supervised_module import SupervisedModule, refuse_token_targets


class Classifier(SupervisedModule):
    """A net with one output per class, trained on cross-entropy.

    Inputs (batch, *input_shape), targets (batch,) of class numbers. Logs ``accuracy``: the share of samples whose
    largest output is the target's.
    """

    def compare(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Logits (batch, classes) and class numbers (batch,).

        Raises:
            UserError: For tokens with a target each, which other modules learn.
        """
        refuse_token_targets(batch, "a classifier gives one class a sample")
        return super().compare(batch)

    def make_loss(self) -> nn.Module:
        """Cross-entropy of the outputs as logits."""
        return nn.CrossEntropyLoss()

    def make_metrics(self) -> dict[str, Metric | MetricCollection]:
        """Accuracy over samples."""
        # Micro-averaging does not depend on the number of classes, which is not yet known here.
        return {"accuracy": cast(Metric, MulticlassAccuracy(num_classes=None, average="micro"))}
