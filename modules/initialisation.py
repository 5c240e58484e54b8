"""Initialisations by name; data only (the functions are in ``initialisation_functions.py``)."""

from __future__ import annotations

from trainoff.registry import Entry, Registry

_HOME = "trainoff.modules.initialisation_functions"

INITIALISATIONS = Registry(
    "initialisation",
    [
        Entry("default", f"{_HOME}:keep", "whatever the net's own constructor drew"),
        Entry("xavier", f"{_HOME}:xavier_uniform", "short for xavier_uniform", paper="Glorot & Bengio 2010, eq. 16"),
        Entry("kaiming", f"{_HOME}:kaiming_normal", "short for kaiming_normal", paper="He et al. 2015, eq. 10"),
        Entry(
            "xavier_uniform",
            f"{_HOME}:xavier_uniform",
            "uniform, variance 2 / (fan in + fan out); biases 0",
            "W ~ U(±√(6 / (nᵢ + nₒ)))",
            "Glorot & Bengio 2010, Understanding the difficulty of training deep feedforward neural networks, eq. 16",
        ),
        Entry(
            "xavier_normal",
            f"{_HOME}:xavier_normal",
            "normal, variance 2 / (fan in + fan out); biases 0",
            "W ~ N(0, 2 / (nᵢ + nₒ))",
            "Glorot & Bengio 2010, eq. 12",
        ),
        Entry(
            "kaiming_normal",
            f"{_HOME}:kaiming_normal",
            "normal, variance 2 / fan in, for ReLU nets; biases 0",
            "W ~ N(0, 2 / nᵢ)",
            "He et al. 2015, Delving deep into rectifiers, eq. 10",
        ),
        Entry(
            "kaiming_uniform",
            f"{_HOME}:kaiming_uniform",
            "uniform, variance 2 / fan in, for ReLU nets; biases 0",
            "W ~ U(±√(6 / nᵢ))",
            "He et al. 2015, Delving deep into rectifiers, eq. 10",
        ),
        Entry("lecun", f"{_HOME}:lecun_normal", "short for lecun_normal", paper="LeCun et al. 1998, eq. 16"),
        Entry(
            "lecun_normal",
            f"{_HOME}:lecun_normal",
            "normal, variance 1 / fan in, for tanh and SELU nets; biases 0",
            "W ~ N(0, 1 / nᵢ)",
            "LeCun, Bottou, Orr & Müller 1998, Efficient BackProp, eq. 16",
        ),
        Entry(
            "lecun_uniform",
            f"{_HOME}:lecun_uniform",
            "uniform, variance 1 / fan in, for tanh and SELU nets; biases 0",
            "W ~ U(±√(3 / nᵢ))",
            "LeCun, Bottou, Orr & Müller 1998, Efficient BackProp, eq. 16",
        ),
        Entry(
            "orthogonal",
            f"{_HOME}:orthogonal",
            "rows or columns orthonormal, times a gain; biases 0",
            "W Wᵀ = gain² I (or WᵀW, of the smaller side)",
            "Saxe, McClelland & Ganguli 2014, Exact solutions to the nonlinear dynamics of learning in deep linear"
            " neural networks",
        ),
        Entry(
            "truncated_normal",
            f"{_HOME}:truncated_normal",
            "normal of a given deviation, cut off at two of them; biases 0; as transformers use",
            "W ~ N(0, σ²) within ±2σ",
            "Devlin et al. 2019, BERT, appendix A.2 (σ = 0.02)",
        ),
        Entry(
            "zero_residual",
            f"{_HOME}:zero_residual",
            "each residual branch ends with zeros, so that the net starts as its shortcuts",
            "γ = 0 in a branch's last norm, or W = 0 in its last layer where it has no norm",
            "Goyal et al. 2017, Accurate, large minibatch SGD, section 5.1",
        ),
        Entry(
            "fixup",
            f"{_HOME}:fixup",
            "for residual nets without norms: branches scaled by depth, their ends and the classifier zero",
            "W ← L^(−1/(2m − 2)) W within a branch of m layers, W = 0 at its end, for L branches",
            "Zhang, Dauphin & Ma 2019, Fixup initialization, section 3 (steps 1 and 2)",
        ),
    ],
    Entry,
    "trainoff.initialisations",
)
