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
    ],
    Entry,
    "trainoff.initialisations",
)
