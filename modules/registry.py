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
        Entry(
            "gan",
            "trainoff.modules.gan:GAN",
            "images from noise: a generator against a discriminator, each with its own recipe; Fréchet distance",
            "min over G, max over D: E log σ(D(x)) + E log(1 − σ(D(G(z)))); G's own loss is −E log σ(D(G(z)))",
            "Goodfellow et al. 2014, Generative adversarial nets",
        ),
    ],
    Entry,
    "trainoff.modules",
)
