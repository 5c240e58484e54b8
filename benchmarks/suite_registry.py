"""The suites by name; data only. A suite's target is a YAML file beside a package."""

from __future__ import annotations

import importlib.resources
from dataclasses import dataclass
from pathlib import Path

from trainoff.errors import UserError
from trainoff.registry import Entry, Registry


@dataclass(frozen=True)
class SuiteEntry(Entry):
    """A suite's entry; its target is ``package:file.yaml``, or ``package.module:NAME`` holding a path."""

    def load(self) -> Path:
        """The path of its YAML file."""
        package, _, file = self.target.partition(":")
        if not file.endswith((".yaml", ".yml")):
            return Path(str(super().load()))
        path = Path(str(importlib.resources.files(package) / file))
        if not path.is_file():
            raise UserError(f"the suite '{self.name}' of package '{self.package}' has no file {path}")
        return path


_HOME = "trainoff.benchmarks.suites"

SUITES = Registry(
    "suite",
    [
        SuiteEntry("digits", f"{_HOME}:digits.yaml", "scikit-learn's digits, an MLP, 12 recipes; under a minute"),
        SuiteEntry("smoke", f"{_HOME}:smoke.yaml", "two recipes, two seeds; seconds"),
        SuiteEntry(
            "fashion-mnist",
            f"{_HOME}:fashion-mnist.yaml",
            "Fashion-MNIST with LeNet-5 and an MLP; with the DeepOBS 2c2d at `--scale full`",
            paper="Schneider, Balles & Hennig 2019, DeepOBS: a deep learning optimizer benchmark suite",
        ),
        SuiteEntry(
            "forgetting",
            f"{_HOME}:forgetting.yaml",
            "two tasks in sequence: elastic weight consolidation against none; a minute",
            paper="Kirkpatrick et al. 2017, Overcoming catastrophic forgetting in neural networks",
        ),
        SuiteEntry(
            "tabular",
            f"{_HOME}:tabular.yaml",
            "four small tables, an MLP, optimizers and regularizers; minutes",
        ),
        SuiteEntry(
            "mnist1d",
            f"{_HOME}:mnist1d.yaml",
            "MNIST-1D with a linear model, an MLP and a temporal convolutional net; minutes",
            paper="Greydanus and Kobak 2024, Scaling Down Deep Learning with MNIST-1D, arXiv:2011.14439",
        ),
        SuiteEntry(
            "overfit", f"{_HOME}:overfit.yaml", "few samples, wrong labels among them: regularizers against none"
        ),
        SuiteEntry(
            "interactions",
            f"{_HOME}:interactions.yaml",
            "batch size × schedule × regularizer, every combination; a minute",
        ),
        SuiteEntry(
            "depth",
            f"{_HOME}:depth.yaml",
            "depth × initialisation × normalisation of an MLP, every combination; a minute",
            paper="He et al. 2015, Delving deep into rectifiers; Glorot & Bengio 2010",
        ),
        SuiteEntry(
            "search-digits",
            f"{_HOME}:search-digits.yaml",
            "an MLP's widths, activation, norm and dropout on digits, for `trainoff search`; a minute",
            paper="Elsken, Metzen & Hutter 2019, Efficient multi-objective neural architecture search via Lamarckian "
            "evolution",
        ),
        SuiteEntry(
            "search-cells",
            f"{_HOME}:search-cells.yaml",
            "cells of convolutions and how they are joined, on digits, for `trainoff search`; minutes",
            paper="Liu et al. 2018, Hierarchical representations for efficient architecture search",
        ),
        SuiteEntry(
            "method-cards",
            f"{_HOME}:method-cards.yaml",
            "every method against one baseline on two tasks, for the documentation's cards; an hour",
        ),
        SuiteEntry(
            "method-cards-residual",
            f"{_HOME}:method-cards-residual.yaml",
            "the methods for residual branches against one baseline; minutes",
        ),
        SuiteEntry(
            "lm-tiny",
            f"{_HOME}:lm-tiny.yaml",
            "a small GPT-2 on generated sentences of known entropy, 5 recipes; minutes",
            paper="Radford et al. 2019, Language models are unsupervised multitask learners",
        ),
        SuiteEntry(
            "mlm-tiny",
            f"{_HOME}:mlm-tiny.yaml",
            "a small BERT on hidden tokens of generated sentences; minutes",
            paper="Devlin et al. 2019, BERT: pre-training of deep bidirectional transformers",
        ),
        SuiteEntry(
            "seq2seq-tiny",
            f"{_HOME}:seq2seq-tiny.yaml",
            "dates to write anew, by a small transformer and an LSTM; minutes",
            paper="Vaswani et al. 2017, Attention is all you need",
        ),
        SuiteEntry(
            "nets",
            f"{_HOME}:nets.yaml",
            "every net for images in its tiny form, one recipe: accuracy against time, in one table; minutes",
        ),
        SuiteEntry(
            "strategies",
            f"{_HOME}:strategies.yaml",
            "one device against two: ddp, FSDP2 and tensor parallelism of a small GPT-2, timed alone; minutes",
            paper="Zhao et al. 2023, PyTorch FSDP: experiences on scaling fully sharded data parallel",
        ),
        SuiteEntry(
            "surgery",
            f"{_HOME}:surgery.yaml",
            "pruning, splicing, shrinking, int8 on scikit-learn's digits, for six purposes; under a minute",
            paper="Guo, Yao & Chen 2016, Dynamic network surgery for efficient DNNs",
        ),
        SuiteEntry(
            "gan-tiny",
            f"{_HOME}:gan-tiny.yaml",
            "a tiny DCGAN on scikit-learn's digits, with R1, an averaged generator, small batches; minutes",
            paper="Radford, Metz & Chintala 2016, Unsupervised representation learning with DCGANs",
        ),
    ],
    SuiteEntry,
    "trainoff.suites",
)
