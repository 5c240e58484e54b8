"""Normalisations by name; data only. A net says one with its argument ``norm``; :mod:`.layers` builds it."""

from __future__ import annotations

from dataclasses import dataclass

from trainoff.registry import Entry, Registry


@dataclass(frozen=True)
class NormEntry(Entry):
    """A normalisation's entry; what is built depends on the net's dimensions.

    Args:
        net: How a net says it, as in YAML.
    """

    net: str = ""


NORMS = Registry(
    "norm",
    [
        NormEntry(
            "batch",
            "",
            "each feature over the batch; sync_batchnorm: true in the strategy takes the batches of all processes",
            "y = γ(x − E[x]) / √(Var[x] + ε) + β",
            "Ioffe & Szegedy 2015, Batch normalization: accelerating deep network training",
            net="norm: batch",
        ),
        NormEntry(
            "ghost_batch",
            "",
            "each feature over parts of the batch, so that a large batch normalises as small ones do",
            paper="Hoffer, Hubara & Soudry 2017, Train longer, generalize better",
            net="norm: {name: ghost_batch, size: 32}",
        ),
        NormEntry(
            "layer",
            "",
            "each sample over its features (and positions)",
            paper="Ba, Kiros & Hinton 2016, Layer normalization",
            net="norm: layer",
        ),
        NormEntry(
            "group",
            "",
            "each sample over groups of its features",
            paper="Wu & He 2018, Group normalization",
            net="norm: group",
        ),
        NormEntry(
            "instance",
            "",
            "each sample and feature over its positions; for images",
            paper="Ulyanov, Vedaldi & Lempitsky 2016, Instance normalization",
            net="norm: instance",
        ),
        NormEntry(
            "rms",
            "",
            "each sample (at each position) by the root mean square of its features; no mean is taken",
            "y = γx / √(E[x²] + ε)",
            "Zhang & Sennrich 2019, Root mean square layer normalization",
            net="norm: rms",
        ),
    ],
    NormEntry,
    "",
)
