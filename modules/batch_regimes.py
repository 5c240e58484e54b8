"""Batch regimes by name; data only. A recipe says them with its fields ``batch`` and ``microbatches``."""

from __future__ import annotations

from dataclasses import dataclass

from trainoff.registry import Entry, Registry


@dataclass(frozen=True)
class BatchRegimeEntry(Entry):
    """A batch regime's entry; it has no class of its own.

    Args:
        recipe: How a recipe says it, as in YAML.
    """

    recipe: str = ""


BATCH_REGIMES = Registry(
    "batch regime",
    [
        BatchRegimeEntry(
            "full_batch",
            "",
            "gradient descent: each step takes the gradient over the whole training set, in parts if it is large",
            "θ ← θ − α∇J(θ)",
            "Cauchy 1847, Méthode générale pour la résolution des systèmes d'équations simultanées",
            recipe="batch: full",
        ),
        BatchRegimeEntry(
            "mini_batch",
            "",
            "each epoch a random partition of the training set into batches of n; every sample once",
            "θ ← θ − α · (1/|B|) Σ_{x∈B} ∇J(θ, x)",
            "Bottou, Curtis & Nocedal 2018, Optimization methods for large-scale machine learning, section 3",
            recipe="batch: 64",
        ),
        BatchRegimeEntry(
            "single_sample",
            "",
            "stochastic gradient descent in the narrow sense: one random sample a step",
            "θ ← θ − α∇J(θ, x)",
            "Robbins & Monro 1951, A stochastic approximation method",
            recipe="batch: 1",
        ),
        BatchRegimeEntry(
            "micro_batches",
            "",
            "one step from k parts of a batch, averaged with their true weights, a smaller last one's too",
            "θ ← θ − α · (1/|B|) Σᵢ |Bᵢ| ∇J(θ, Bᵢ)",
            recipe="batch: 64, microbatches: 4",
        ),
    ],
    BatchRegimeEntry,
    "",
)
