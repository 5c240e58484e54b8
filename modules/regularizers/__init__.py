"""Regularizers by name, each a Lightning Callback in a file of its own; this listing is data only.

Adding one takes a file with a subclass of :class:`~trainoff.modules.regularizers.base.Regularizer` and a line here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainoff.lazy_imports import lazy_attributes
from trainoff.registry import Entry, Registry, class_homes

ActsOn = Literal["callback", "optimizer", "net", "loss"]


@dataclass(frozen=True)
class RegularizerEntry(Entry):
    """A regularizer's entry.

    Args:
        acts_on: ``callback`` and ``optimizer`` work with any LightningModule; ``net`` and ``loss`` need one that
            offers the place.
    """

    acts_on: ActsOn = "callback"


_HOME = "trainoff.modules.regularizers"

REGULARIZERS = Registry(
    "regularizer",
    [
        RegularizerEntry("l1", f"{_HOME}.penalties:L1", "penalty on the absolute weights", "J = J₀ + λ‖θ‖₁"),
        RegularizerEntry("l2", f"{_HOME}.penalties:L2", "penalty on the squared weights", "J = J₀ + λ‖θ‖₂²"),
        RegularizerEntry("lp", f"{_HOME}.penalties:Lp", "penalty on the weights' p-th power", "J = J₀ + λ‖θ‖ₚᵖ"),
        RegularizerEntry(
            "elastic_net",
            f"{_HOME}.penalties:ElasticNet",
            "penalty on the absolute and the squared weights together",
            "J = J₀ + λ(r‖θ‖₁ + (1 − r)‖θ‖₂²)",
            "Zou & Hastie 2005, Regularization and variable selection via the elastic net",
        ),
        RegularizerEntry(
            "weight_decay",
            f"{_HOME}.weight_decay:WeightDecay",
            "shrinks the weights apart from the gradient; spares biases, norms and embeddings",
            "θ ← (1 − lr·λ)θ before each step",
            "Loshchilov & Hutter 2019, Decoupled weight decay regularization",
            acts_on="optimizer",
        ),
        RegularizerEntry(
            "dropout",
            f"{_HOME}.dropout:Dropout",
            "zeroes a share p of activations in training",
            "h ← h · Bernoulli(1 − p) / (1 − p)",
            "Srivastava et al. 2014, Dropout: a simple way to prevent neural networks from overfitting",
            acts_on="net",
        ),
        RegularizerEntry(
            "drop_path",
            f"{_HOME}.drop_path:DropPath",
            "leaves residual branches out at random in training, the deeper the more",
            "y ← x + F(x) · Bernoulli(1 − pₗ) / (1 − pₗ), pₗ = p · l / L",
            "Huang et al. 2016, Deep networks with stochastic depth",
            acts_on="net",
        ),
        RegularizerEntry(
            "label_smoothing",
            f"{_HOME}.label_smoothing:LabelSmoothing",
            "mixes each target with the uniform distribution, in training only",
            "y ← (1 − ε)y + ε/K",
            "Szegedy et al. 2016, Rethinking the Inception architecture for computer vision",
            acts_on="loss",
        ),
        RegularizerEntry(
            "confidence_penalty",
            f"{_HOME}.confidence_penalty:ConfidencePenalty",
            "subtracts the entropy of the predictions from the loss, in training only",
            "J = J₀ − βH(p(y|x))",
            "Pereyra et al. 2017, Regularizing neural networks by penalizing confident output distributions",
            acts_on="loss",
        ),
        RegularizerEntry(
            "distillation",
            f"{_HOME}.distillation:Distillation",
            "trains on a teacher's softened outputs beside the targets",
            "J = (1 − α)J₀ + αT²KL(softmax(z_teacher/T) ‖ softmax(z/T))",
            "Hinton, Vinyals & Dean 2015, Distilling the knowledge in a neural network",
            acts_on="loss",
        ),
        RegularizerEntry(
            "curriculum",
            f"{_HOME}.curriculum:Curriculum",
            "trains on the easiest share of each batch, which grows to all of it",
            "J = mean of the ⌈s(t)·n⌉ smallest of n losses, s(t) = s₀ + (1 − s₀)·min(1, t/(uT))",
            "Bengio et al. 2009, Curriculum learning; Kumar, Packer & Koller 2010, Self-paced learning",
            acts_on="loss",
        ),
        RegularizerEntry(
            "gradient_penalty",
            f"{_HOME}.gradient_penalty:GradientPenalty",
            "penalty on the loss's gradient with respect to the inputs",
            "J = J₀ + (γ/2)E‖∇ₓL(x)‖²",
            "Drucker & LeCun 1992, Improving generalization performance using double backpropagation",
        ),
        RegularizerEntry(
            "r1",
            f"{_HOME}.gradient_penalty:GradientPenalty",
            "gradient_penalty, by the name that it has where L is a discriminator's output",
            "J = J₀ + (γ/2)E‖∇ₓL(x)‖²",
            "Mescheder, Geiger & Nowozin 2018, Which training methods for GANs do actually converge?",
        ),
        RegularizerEntry(
            "input_noise",
            f"{_HOME}.input_noise:InputNoise",
            "adds noise to the inputs",
            "x ← x + N(0, σ²)",
            "Bishop 1995, Training with noise is equivalent to Tikhonov regularization",
        ),
        RegularizerEntry(
            "cutout",
            f"{_HOME}.cutout:Cutout",
            "blanks a box of each sample",
            "x ← x · (1 − box)",
            "DeVries & Taylor 2017, Improved regularization of convolutional neural networks with cutout",
        ),
        RegularizerEntry(
            "mixup",
            f"{_HOME}.mixup:Mixup",
            "trains on mixtures of two samples and of their targets",
            "x ← λxᵢ + (1 − λ)xⱼ, y ← λyᵢ + (1 − λ)yⱼ, λ ~ Beta(α, α)",
            "Zhang et al. 2018, mixup: beyond empirical risk minimization",
            acts_on="loss",
        ),
        RegularizerEntry(
            "cutmix",
            f"{_HOME}.cutmix:CutMix",
            "pastes a box of another sample, and mixes the targets by its area",
            "x ← M ⊙ xᵢ + (1 − M) ⊙ xⱼ, y ← λyᵢ + (1 − λ)yⱼ, λ the share of M",
            "Yun et al. 2019, CutMix: regularization strategy to train strong classifiers",
            acts_on="loss",
        ),
        RegularizerEntry(
            "gradient_noise",
            f"{_HOME}.gradient_noise:GradientNoise",
            "adds noise to the gradient, less and less",
            "g ← g + N(0, σ²/(1 + t)^γ)",
            "Neelakantan et al. 2015, Adding gradient noise improves learning for very deep networks",
        ),
        RegularizerEntry(
            "gradient_centralization",
            f"{_HOME}.gradient_centralization:GradientCentralization",
            "subtracts from each weight's gradient its mean over the unit's inputs",
            "g ← g − mean(g)",
            "Yong et al. 2020, Gradient centralization: a new optimization technique for deep neural networks",
        ),
        RegularizerEntry(
            "gradient_clip",
            f"{_HOME}.gradient_clip:GradientClip",
            "bounds the gradient's norm, each of its values, or each unit's by that of its weights",
            "g ← g · min(1, c / ‖g‖₂)",
            "Pascanu, Mikolov & Bengio 2013, On the difficulty of training recurrent neural networks",
        ),
        RegularizerEntry(
            "spike_guard",
            f"{_HOME}.spike_guard:SpikeGuard",
            "counts loss spikes, and skips such steps or goes back to earlier weights",
            "no step where loss > factor · median of the recent losses",
            "Chowdhery et al. 2022, PaLM: scaling language modeling with pathways, section 5.1",
        ),
        RegularizerEntry(
            "sam",
            f"{_HOME}.optimizer_wrappers:SAM",
            "takes the gradient where the loss is highest nearby; two evaluations a step",
            "θ ← θ − lr · ∇J(θ + ρ∇J(θ) / ‖∇J(θ)‖)",
            "Foret et al. 2021, Sharpness-aware minimization for efficiently improving generalization",
            acts_on="optimizer",
        ),
        RegularizerEntry(
            "lookahead",
            f"{_HOME}.optimizer_wrappers:Lookahead",
            "slow weights that follow the optimizer's every few steps",
            "every k steps: φ ← φ + α(θ − φ), θ ← φ",
            "Zhang et al. 2019, Lookahead optimizer: k steps forward, 1 step back",
            acts_on="optimizer",
        ),
        RegularizerEntry(
            "orthogonal",
            f"{_HOME}.weight_matrices:Orthogonal",
            "penalty on weights that are far from orthonormal",
            "J = J₀ + λ Σ ‖W Wᵀ − I‖²_F",
            "Bansal, Chen & Wang 2018, Can we gain more from orthogonality regularizations in training deep networks?",
        ),
        RegularizerEntry(
            "spectral_norm",
            f"{_HOME}.weight_matrices:SpectralNorm",
            "penalty on each weight's largest singular value",
            "J = J₀ + (λ/2) Σ σ(W)²",
            "Yoshida & Miyato 2017, Spectral norm regularization for improving the generalizability of deep learning",
        ),
        RegularizerEntry(
            "ewc",
            f"{_HOME}.ewc:EWC",
            "penalty on moving weights that earlier fits depend on, so that these are not forgotten",
            "J = J₀ + (λ/2) Σ Fᵢ(θᵢ − θ*ᵢ)²",
            "Kirkpatrick et al. 2017, Overcoming catastrophic forgetting in neural networks",
        ),
        RegularizerEntry(
            "max_norm",
            f"{_HOME}.max_norm:MaxNorm",
            "bounds the norm of each unit's incoming weights, by projection after each step",
            "w ← w · min(1, c / ‖w‖₂)",
            "Srivastava et al. 2014, Dropout, section 5.1",
        ),
        RegularizerEntry(
            "ema",
            f"{_HOME}.weight_averaging:EMA",
            "evaluates an exponential moving average of the weights",
            "θ̄ ← dθ̄ + (1 − d)θ",
            "Polyak & Juditsky 1992, Acceleration of stochastic approximation by averaging",
        ),
        RegularizerEntry(
            "swa",
            f"{_HOME}.weight_averaging:SWA",
            "evaluates the mean of the weights at the ends of the last epochs",
            "θ̄ = (1/n) Σ θᵢ",
            "Izmailov et al. 2018, Averaging weights leads to wider optima and better generalization",
        ),
        RegularizerEntry(
            "early_stopping",
            f"{_HOME}.early_stopping:EarlyStopping",
            "ends the training when validation no longer improves",
            paper="Prechelt 1998, Early stopping, but when?",
        ),
    ],
    RegularizerEntry,
    "trainoff.regularizers",
)

# The classes by their own names too, imported when first used.
_HOMES = {"Regularizer": "base"} | class_homes(REGULARIZERS)

__all__ = ["REGULARIZERS", "RegularizerEntry", *_HOMES]


__getattr__ = lazy_attributes(__name__, _HOMES)
