"""Optimizers by name: all of torch.optim, all that pytorch_optimizer lists, and one of our own; data only."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path

from trainoff.modules import pytorch_optimizer_names as library
from trainoff.registry import Entry, Registry


@dataclass(frozen=True)
class OptimizerEntry(Entry):
    """An optimizer's entry.

    Args:
        fused: torch has a fused form whose numbers agree; used unless a precision forbids it.
        decoupled: Its ``weight_decay`` shrinks the weights apart from the gradient, as AdamW's does. Biases, norms
            and embeddings are then left out of it.
        needs: What it needs beyond gradients and ``step()``, in the words of ``pytorch_optimizer_names.py``; empty for
            most. Recipes provide it.
        unsupported: Why recipes do not offer it; empty where they do.
        learning_rate: A rate that trains, where the library's default does not or there is none.
        guaranteed: Tests hold that it trains, that a resumed training ends at the parameters of an uninterrupted one
            and two processes at those of one, and that it works under bf16-mixed. The others are tested to train.
    """

    fused: bool = False
    decoupled: bool = False
    needs: frozenset[str] = frozenset()
    unsupported: str = ""
    learning_rate: float | None = None
    guaranteed: bool = False


_TORCH = [
    OptimizerEntry(
        "adadelta",
        "torch.optim:Adadelta",
        "steps scaled by running averages of squared gradients and squared updates",
        "θ ← θ − lr · √(E[Δ²] + ε) / √(E[g²] + ε) · g",
        "Zeiler 2012, ADADELTA: an adaptive learning rate method",
    ),
    OptimizerEntry(
        "adafactor",
        "torch.optim:Adafactor",
        "Adam's scaling with factored second moments, to save memory",
        "v ≈ r cᵀ / Σr, θ ← θ − lr · clip(g / √v)",
        "Shazeer & Stern 2018, Adafactor: adaptive learning rates with sublinear memory cost",
        decoupled=True,
    ),
    OptimizerEntry(
        "adagrad",
        "torch.optim:Adagrad",
        "each coordinate's rate shrinks with its summed squared gradients",
        "G ← G + g², θ ← θ − lr · g / (√G + ε)",
        "Duchi, Hazan & Singer 2011, Adaptive subgradient methods",
        fused=True,
    ),
    OptimizerEntry(
        "adam",
        "torch.optim:Adam",
        "momentum, scaled by the root of a running average of squared gradients",
        "m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², θ ← θ − lr · m̂ / (√v̂ + ε)",
        "Kingma & Ba 2015, Adam: a method for stochastic optimization",
        fused=True,
    ),
    OptimizerEntry(
        "adamax",
        "torch.optim:Adamax",
        "Adam with the largest recent gradient in place of the root mean square",
        "u ← max(β₂u, |g|), θ ← θ − lr · m̂ / u",
        "Kingma & Ba 2015, Adam, section 7.1",
    ),
    OptimizerEntry(
        "adamw",
        "torch.optim:AdamW",
        "Adam with decoupled weight decay",
        "θ ← θ − lr · λθ − lr · m̂ / (√v̂ + ε)",
        "Loshchilov & Hutter 2019, Decoupled weight decay regularization",
        fused=True,
        decoupled=True,
    ),
    OptimizerEntry(
        "asgd",
        "torch.optim:ASGD",
        "SGD that keeps a running average of its iterates",
        "θ ← θ − ηₜ g, θ̄ ← θ̄ + μₜ(θ − θ̄)",
        "Polyak & Juditsky 1992, Acceleration of stochastic approximation by averaging",
    ),
    OptimizerEntry(
        "lbfgs",
        "torch.optim:LBFGS",
        "a quasi-Newton step from recent gradients; several evaluations a step",
        "θ ← θ − lr · H g, H from the last steps' differences",
        "Liu & Nocedal 1989, On the limited memory BFGS method",
        needs=frozenset({"closure"}),
    ),
    OptimizerEntry(
        "muon",
        "torch.optim:Muon",
        "momentum whose matrix updates are made orthogonal",
        "θ ← θ − lr · NewtonSchulz(μB + g)",
        "Jordan et al. 2024, Muon: an optimizer for hidden layers in neural networks",
        decoupled=True,
        needs=frozenset({"matrices"}),
        learning_rate=0.02,  # Jordan et al.'s; torch's 1e-3 hardly moves a small net
    ),
    OptimizerEntry(
        "nadam",
        "torch.optim:NAdam",
        "Adam with Nesterov momentum",
        "θ ← θ − lr · (μₜ₊₁m̂ + (1−μₜ)ĝ) / (√v̂ + ε)",
        "Dozat 2016, Incorporating Nesterov momentum into Adam",
    ),
    OptimizerEntry(
        "radam",
        "torch.optim:RAdam",
        "Adam with its early variance rectified",
        "θ ← θ − lr · rₜ · m̂ / √v̂",
        "Liu et al. 2020, On the variance of the adaptive learning rate and beyond",
    ),
    OptimizerEntry(
        "rmsprop",
        "torch.optim:RMSprop",
        "gradients scaled by the root of a running average of their squares",
        "v ← αv + (1−α)g², θ ← θ − lr · g / (√v + ε)",
        "Tieleman & Hinton 2012, Lecture 6.5",
    ),
    OptimizerEntry(
        "rprop",
        "torch.optim:Rprop",
        "steps from the gradients' signs alone; for full batches",
        "Δ grows by η⁺ while the sign stays, shrinks by η⁻ when it turns; θ ← θ − Δ · sign(g)",
        "Riedmiller & Braun 1993, A direct adaptive method: the RPROP algorithm",
    ),
    OptimizerEntry(
        "sgd",
        "torch.optim:SGD",
        "gradient descent, with momentum and Nesterov's form as arguments",
        "b ← μb + g, θ ← θ − lr · b",
        "Robbins & Monro 1951; Sutskever et al. 2013 for momentum",
        fused=True,
    ),
    OptimizerEntry(
        "sparseadam",
        "torch.optim:SparseAdam",
        "Adam for sparse gradients, as of nn.Embedding(sparse=True)",
        paper="Kingma & Ba 2015, Adam",
        unsupported="takes sparse gradients only, which no net here has",
    ),
]

_OURS = [
    OptimizerEntry(
        "kahan_sgd",
        "trainoff.modules.kahan_sgd:KahanSGD",
        "SGD for bfloat16 weights (bf16-true) that loses no update to rounding: Kahan-summed, or rounded at random",
        "b ← μb + g, y ← c − lr · b, θ' ← round(θ + y), c ← y − (θ' − θ)",
        "De Sa et al. 2018, High-accuracy low-precision training; Zamirai et al. 2020, Revisiting bfloat16 training",
    ),
]

# Which the tests of their formulas, of resuming, of two processes and of bf16 cover.
_GUARANTEED = {
    "adabelief", "adadelta", "adagrad", "adam", "adamax", "adamw", "adan", "ademamix", "adopt", "asgd", "kahan_sgd",
    "lamb", "lion", "lookahead", "muon", "nadam", "po_muon", "prodigy", "radam", "rmsprop", "rprop", "sam",
    "schedulefreeadamw", "schedulefreesgd", "sgd",
}  # fmt: skip


# Where the survey's one net says too little: AdamMini's own rate, 1.0, diverges on a net of three layers.
_RATES = {"adammini": 1e-3}


def _library_papers() -> dict[str, dict[str, str]]:
    """What each of the library's optimizers does, in one line, and the paper that it is from."""
    with Path(__file__).with_name("pytorch_optimizer_papers.csv").open(encoding="utf-8", newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


_PAPERS = _library_papers()


def _library_entry(name: str, class_name: str) -> OptimizerEntry:
    needs = library.NEEDS.get(name, "")
    unsupported = needs.removeprefix("unsupported: ") if needs.startswith("unsupported: ") else ""
    known = _PAPERS.get(name, {"summary": f"{class_name} of pytorch_optimizer", "paper": ""})  # a newly surveyed one
    words = frozenset() if unsupported else frozenset(filter(None, needs.split(", ")))
    if "process_group" in words:
        unsupported = "needs several processes even to be made; po_muon is the same on any number of them"
    return OptimizerEntry(
        name,
        f"pytorch_optimizer:{class_name}",
        known["summary"],
        paper=known["paper"],
        decoupled=name in library.DECOUPLED,
        needs=words,
        unsupported=unsupported,
        learning_rate=_RATES.get(name, library.LEARNING_RATES.get(name)),
    )


_ALL = [*_TORCH, *_OURS, *(_library_entry(name, class_name) for name, class_name in library.CLASSES.items())]

OPTIMIZERS = Registry(
    "optimizer",
    [replace(entry, guaranteed=entry.name in _GUARANTEED) for entry in _ALL],
    OptimizerEntry,
    "trainoff.optimizers",
)
