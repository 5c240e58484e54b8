"""Nets for tokens: those that are shipped pass; each broken one fails exactly the checks that it should."""

from __future__ import annotations

import pytest
import torch
from failed_checks import failed
from torch import nn

from trainoff.benchmarks.conformance import check
from trainoff.command_line import main


@pytest.mark.parametrize("name", ["gpt2", "bert", "transformer", "seq2seq_lstm"])
def test_what_is_shipped_behaves(name):
    assert failed("net", name) == set()


@pytest.mark.parametrize(("name", "causal"), [("gpt2", True), ("bert", False), ("transformer", True)])
def test_a_net_is_causal_where_it_decodes_step_by_step(name, causal):
    (finding,) = [finding for finding in check("net", name) if finding.name == "causality"]
    assert finding.offered == causal


def test_the_command(capsys):
    assert main(["check", "net", "gpt2"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "gpt2: 8 of 8 checks passed"


class Running(nn.Module):
    """The mean of the embeddings so far, right in every way; the broken ones change one thing each."""

    def __init__(self, input_shape, output_size):
        super().__init__()
        self.embedding = nn.Embedding(output_size, 8)
        self.output = nn.Linear(8, output_size)

    def mean(self, x):
        return x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]

    def forward(self, tokens):
        return self.output(self.mean(self.embedding(tokens)))

    def decode_step(self, tokens, cache=None):
        raise NotImplementedError


class SeesAll(Running):
    def mean(self, x):
        return x + x.mean(1, keepdim=True)


class SeesAllAndSaysSo(SeesAll):
    decode_step = property()  # hasattr is false


class Blind(Running):
    """The output at a place knows the tokens before it alone."""

    def mean(self, x):
        return super().mean(x).roll(1, 1).index_fill(1, torch.tensor([0]), 0.0)


class Spare(Running):
    def __init__(self, input_shape, output_size):
        super().__init__(input_shape, output_size)
        self.spare = nn.Linear(3, 3)


class Sociable(Running):
    def mean(self, x):
        return super().mean(x) + x.mean(0)


class HiddenState(Running):
    def __init__(self, input_shape, output_size):
        super().__init__(input_shape, output_size)
        self.shift = torch.rand(8)

    def mean(self, x):
        return super().mean(x) + self.shift


class AlwaysTen(Running):
    def __init__(self, input_shape, output_size):
        super().__init__(input_shape, 10)


@pytest.mark.parametrize(
    ("net", "checks"),
    [
        (Running, set()),
        (SeesAll, {"causality"}),
        (SeesAllAndSaysSo, set()),
        (Blind, {"causality"}),
        (Spare, {"gradients"}),
        (Sociable, {"evaluation"}),
        (HiddenState, {"state dict"}),
        (AlwaysTen, {"output shape"}),
    ],
)
def test_a_broken_net_fails_its_check(net, checks):
    assert failed("net", net) == checks
