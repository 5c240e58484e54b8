"""Whether more of a metric is better, for the metrics whose names say so."""

from __future__ import annotations

from typing import Literal

MODES: dict[str, Literal["max", "min"]] = {
    "accuracy": "max",
    "acc": "max",
    "f1": "max",
    "auroc": "max",
    "r2": "max",
    "bleu": "max",
    "exact_match": "max",
    "token_accuracy": "max",
    "loss": "min",
    "mse": "min",
    "rmse": "min",
    "mae": "min",
    "perplexity": "min",
    "bits_per_byte": "min",
    "bits_per_token": "min",
    "error": "min",
    "frechet_distance": "min",
}
