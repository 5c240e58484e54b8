"""Classes from inputs."""

from __future__ import annotations

from typing import cast

from torch import nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from trainoff.modules.supervised_module import SupervisedModule


class Classifier(SupervisedModule):
    """A net with one output per class, trained on cross-entropy.

    Inputs (batch, *input_shape), targets (batch,) of class numbers. Logs ``accuracy``: the share of samples whose
    largest output is the target's.
    """

    def make_loss(self) -> nn.Module:
        """Cross-entropy of the outputs as logits."""
        return nn.CrossEntropyLoss()

    def make_metrics(self) -> dict[str, Metric | MetricCollection]:
        """Accuracy over samples."""
        # Micro-averaging does not depend on the number of classes, which is not yet known here.
        return {"accuracy": cast(Metric, MulticlassAccuracy(num_classes=None, average="micro"))}
