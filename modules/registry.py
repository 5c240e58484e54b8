"""The kinds of LightningModule by name; data only."""

from __future__ import annotations

from trainoff.registry import Entry, Registry

MODULES = Registry(
    "LightningModule",
    [
        Entry(
            "classifier",
            "trainoff.modules.classifier:Classifier",
            "classes from inputs: cross-entropy loss, accuracy",
        ),
        Entry(
            "regressor",
            "trainoff.modules.regressor:Regressor",
            "numbers from inputs: mean squared error, mean absolute error, R²",
        ),
    ],
    Entry,
    "trainoff.modules",
)
