"""Pruning methods by name, each a Lightning Callback in a file of its own; this listing is data only.

Adding one takes a file with a subclass of :class:`~trainoff.modules.pruning.base.Pruning` and a line here.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainoff.lazy_imports import lazy_attributes
from trainoff.registry import Entry, Registry, class_homes


@dataclass(frozen=True)
class PruningEntry(Entry):
    """A pruning method's entry.

    Args:
        costs: What it costs beside a plain training.
    """

    costs: str = ""


_HOME = "trainoff.modules.pruning"

PRUNING = Registry(
    "pruning method",
    [
        PruningEntry(
            "magnitude",
            f"{_HOME}.magnitude:Magnitude",
            "prunes the smallest weights, or units, once, and trains the others on",
            "mask = |θ| above its s-quantile; θ ← θ ⊙ mask",
            "Han et al. 2015, Learning both weights and connections for efficient neural networks",
            costs="a product with the masks each step",
        ),
        PruningEntry(
            "gradual",
            f"{_HOME}.gradual:Gradual",
            "prunes the smallest weights more and more, by a cubic schedule",
            "s(t) = s_f + (s_i − s_f)(1 − (t − t₀)/(nΔt))³",
            "Zhu & Gupta 2017, To prune, or not to prune: exploring the efficacy of pruning for model compression",
            costs="a product with the masks each step, and a sort of the weights at each of n prunings",
        ),
        PruningEntry(
            "dynamic_network_surgery",
            f"{_HOME}.dynamic_network_surgery:DynamicNetworkSurgery",
            "prunes small weights and splices those back that grow, while the net trains",
            "h ← 0 where |θ| < a, 1 where |θ| ≥ b; the net has θ ⊙ h; θ ← θ − α ∂J/∂(θ ⊙ h)",
            "Guo, Yao & Chen 2016, Dynamic network surgery for efficient DNNs",
            costs="a copy of the weights in memory and in checkpoints, two copies of them and a comparison each step",
        ),
        PruningEntry(
            "synflow",
            f"{_HOME}.synflow:SynFlow",
            "prunes before training, without data, the weights that the fewest and weakest paths go through",
            "R = 1ᵀ f(1; |θ|); the lowest |∂R/∂θ ⊙ θ| go, in n rounds",
            "Tanaka et al. 2020, Pruning neural networks without any data by iteratively conserving synaptic flow",
            costs="n forward and backward passes of one sample before training; a product with the masks each step",
        ),
        PruningEntry(
            "snip",
            f"{_HOME}.snip:Snip",
            "prunes at the first gradient the weights that mean the least to the loss",
            "the lowest |∂J/∂θ ⊙ θ| of the first batch go",
            "Lee, Ajanthan & Torr 2019, SNIP: single-shot network pruning based on connection sensitivity",
            costs="one sort of the weights; a product with the masks each step",
        ),
        PruningEntry(
            "movement",
            f"{_HOME}.movement:Movement",
            "prunes weights that the training drives towards zero; made for fine-tuning",
            "S ← S − α·g·θ; the lowest S go, more and more",
            "Sanh, Wolf & Rush 2020, Movement pruning: adaptive sparsity by fine-tuning",
            costs="a copy of the weights and one of scores in memory and checkpoints, and their sum each step",
        ),
        PruningEntry(
            "lottery_ticket",
            f"{_HOME}.lottery_ticket:LotteryTicket",
            "trains, prunes, and rewinds what is left to its early weights, several times within one training",
            "θ ← θ_k ⊙ mask after each round; (1 − s)^(i/n) of the weights are left after round i",
            "Frankle & Carbin 2019, The lottery ticket hypothesis: finding sparse, trainable neural networks",
            costs="the budget is shared by n + 1 trainings; a copy of weights and optimizer state",
        ),
        PruningEntry(
            "progressive_shrinking",
            f"{_HOME}.progressive_shrinking:ProgressiveShrinking",
            "trains a net at widths from large to small, by masking its least important units; or grows it",
            "widths w_i = 1 − (1 − w)i/n; in part i a step draws one of w_0 … w_i",
            "Cai et al. 2020, Once-for-all: train one network and specialize it for efficient deployment",
            costs="a copy of the weights in memory and in checkpoints, and copies of them each step",
        ),
        PruningEntry(
            "int8",
            f"{_HOME}.int8:Int8",
            "evaluates with eight-bit weights in affine layers; trains as ever (CPU)",
            "W ≈ s·W₈, W₈ = round(W/s) in −128 … 127; activations likewise, by each batch's range",
            "Jacob et al. 2018, Quantization and training of neural networks for efficient integer-arithmetic-only "
            "inference",
            costs="nothing in training; rounding in each forward pass after it",
        ),
    ],
    PruningEntry,
    "trainoff.pruning",
)

# The classes by their own names too, imported when first used.
_HOMES = {"Pruning": "base"} | class_homes(PRUNING)

__all__ = ["PRUNING", "PruningEntry", *_HOMES]


__getattr__ = lazy_attributes(__name__, _HOMES)
