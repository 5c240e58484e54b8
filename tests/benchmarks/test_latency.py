"""The latency of a forward pass, against a module whose forward takes a known time."""

from __future__ import annotations

import time
from types import SimpleNamespace

import lightning as L
import pytest
import torch

from trainoff.benchmarks.meters.latency import LatencyMeter

BATCH = torch.zeros(8, 3)


class Sleeper(L.LightningModule):
    """Takes 5 ms, draws a random number, and keeps the sizes of its batches."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, inputs):
        self.sizes.append(len(inputs))
        torch.rand(1)
        time.sleep(0.005)
        return inputs


def measured(module, batch, stage="fit", times=1):
    meter = LatencyMeter()
    for _ in range(times):
        trainer = SimpleNamespace(state=SimpleNamespace(fn=stage), strategy=None)
        meter.on_validation_batch_start(trainer, module, batch, 0)
    return meter.latency_seconds


@pytest.mark.parametrize("batch", [BATCH, (BATCH, BATCH), [BATCH, {"more": 1}]])
def test_it_is_the_time_of_one_sample_in_a_forward_pass(batch):
    module = Sleeper()
    state = torch.get_rng_state()
    assert measured(module, batch, times=3) >= 0.005
    assert set(module.sizes) == {1}
    assert 1 <= len(module.sizes) <= 41  # once, within 0.2 s
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("batch", [{"inputs": BATCH}, (), torch.tensor(1.0), ("text", BATCH)])
def test_of_another_batch_it_is_unknown(batch):
    assert measured(Sleeper(), batch) is None


def test_of_a_module_that_takes_something_else_it_is_unknown():
    assert measured(L.LightningModule(), BATCH) is None


def test_it_is_taken_while_fitting_only():
    module = Sleeper()
    assert measured(module, BATCH, stage="validate") is None
    assert module.sizes == []
