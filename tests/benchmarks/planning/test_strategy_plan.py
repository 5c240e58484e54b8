"""Strategies against published numbers, shards against counting, and batches that devices share."""

from __future__ import annotations

import functools
import math

import pytest
import torch.distributed
from hypothesis import given
from hypothesis import strategies as st

from trainoff.benchmarks.planning.net_training import NetTraining, parts_of
from trainoff.benchmarks.planning.sharding import fake_devices, shard_net
from trainoff.benchmarks.planning.strategy_plan import (
    ALL_ROWS,
    Training,
    bytes_of,
    plan_strategies,
    rows_of,
    trackable,
)
from trainoff.benchmarks.planning.tracked_step import StepMemory, track_step
from trainoff.errors import UserError
from trainoff.modules.net_building import build_net
from trainoff.modules.recipe import Recipe

GPT = NetTraining({"name": "gpt2", "width": 64, "depth": 3, "heads": 4}, "language_model", (16,), 100)


def training_of(recipe="adamw", net=GPT):
    made = Recipe.of(recipe)
    return Training(
        build=net.build,
        recipe=made,
        batches_of=lambda samples: [net.batch(part) for part in parts_of(samples, made.microbatches)],
        facts=net.facts,
    )


class Fixed(Training):
    """A training whose numbers are known."""

    def track(self, samples):
        return self.facts


def test_stages_are_those_of_the_papers_figure():
    """Rajbhandari et al. 2020, figure 1: 7.5 billion parameters, 64 devices, mixed precision, Adam."""
    count = 7_500_000_000
    states = StepMemory(4 * count, 4 * count, 8 * count, 0, 0, 16 * count, count, 0)
    fixed = Fixed(None, Recipe(precision="16-mixed"), None, states)
    first, second = (row.memory for row in plan_strategies(fixed, 64, 64, ("deepspeed 1", "deepspeed 2")))
    for step, paper in ((first, 31.4e9), (second, 16.6e9)):
        total = step.parameters + step.gradients + step.optimizer_state
        assert total == pytest.approx(paper, abs=0.05e9)
        assert step.peak == total + step.copies  # the bucket: DeepSpeed's 200 million numbers in half precision
        assert step.copies == 400_000_000


def test_ddp_keeps_the_gradients_once_more():
    alone, ddp = plan_strategies(training_of(), 8, 1, ("single_device", "ddp"))
    assert ddp.memory.peak - alone.memory.peak == alone.memory.gradients


def test_a_shard_has_its_rows_of_each_parameter():
    devices = 4
    (sharded,) = plan_strategies(training_of(), 8, devices, ("fsdp",))
    net = build_net(GPT.net, GPT.input_shape, GPT.output_size)
    rows = sum(math.ceil(len(p) / devices) * (p.numel() // len(p)) for p in net.parameters())
    assert sharded.memory.parameters == sharded.memory.gradients == 4 * rows
    steps = len(list(net.parameters()))
    assert sharded.memory.optimizer_state == 2 * 4 * rows + 4 * steps
    assert not torch.distributed.is_initialized()


def test_a_shard_needs_the_activations_of_its_own_samples():
    training = training_of()
    sharded, alone = training.track_sharded(2, 4), training.track(2)
    assert sharded.activations == pytest.approx(alone.activations, rel=0.01)
    assert sharded.peak < alone.peak


def test_the_finding_of_shardings_does_not_count():
    """Torch runs each operation on tensors of the whole size once; that is not the devices' memory."""
    wide = NetTraining({"name": "mlp", "hidden": [512] * 4}, "classifier", (512,), 10)
    training = training_of("adamw", wide)
    alone, sharded = training.track(2), training.track_sharded(2, 8)
    states = (alone.parameters + alone.gradients + alone.optimizer_state) / 8
    gathered = alone.parameters + alone.gradients  # an MLP has no blocks: all is gathered at once
    assert states + alone.parameters < sharded.peak < states + gathered + 2**18


def test_the_batch_is_shared_equally_or_refused():
    with pytest.raises(UserError, match="10 samples cannot be shared equally by 4 devices"):
        plan_strategies(training_of(), 10, 4, ALL_ROWS)
    rows = plan_strategies(training_of(), 8, 4, ("single_device", "ddp"))
    assert [row.samples for row in rows] == [8, 2]


def test_what_fits_is_what_is_not_larger():
    (row,) = plan_strategies(training_of(), 8, 1, ("single_device",))
    for memory, fits in ((row.memory.peak, True), (row.memory.peak - 1, False)):
        assert [found.fits for found in plan_strategies(training_of(), 8, 1, ("single_device",), memory)] == [fits]


def test_several_nets_cannot_be_sharded():
    gan = NetTraining.of({"name": "dcgan", "latent": 8, "width": 4}, "", (1, 16, 16), 1)
    recipe = Recipe("adam")
    with fake_devices(2) as mesh, pytest.raises(UserError, match="one can be sharded"):
        track_step(
            lambda: gan.build(recipe),
            recipe,
            [gan.batch(2)],
            gan.facts,
            functools.partial(shard_net, mesh=mesh),
        )


def test_a_recipe_is_planned_without_what_needs_its_devices():
    recipe = Recipe(strategy={"name": "ddp", "devices": 8}, precision="16-mixed", compile=True)
    made = trackable(recipe)
    assert (made.strategy, made.precision, made.compile) == (None, "bf16-mixed", None)


@given(
    st.integers(1, 10**6), st.sampled_from([("B", 1), ("GB", 10**9), ("gb", 10**9), ("GiB", 2**30), ("TB", 10**12)])
)
def test_amounts_of_memory(number, unit):
    name, size = unit
    assert bytes_of(f"{number}{name}") == bytes_of(f" {number} {name} ") == number * size


@pytest.mark.parametrize("text", ["", "GB", "80XB", "-1GB", "0GB", "1e3GB", "80 GB GB"])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(UserError, match="is no amount of memory; write 80GB"):
        bytes_of(text)


@given(st.integers(1, 1000), st.integers(1, 50))
def test_parts_are_as_equal_as_can_be(samples, parts):
    sizes = parts_of(samples, parts)
    assert sum(sizes) == samples
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == parts


def test_strategies_have_their_rows():
    assert rows_of("model_parallel") == rows_of("fsdp") == ("fsdp",)
    assert rows_of("deepspeed") == ("deepspeed 1", "deepspeed 2", "fsdp")
    with pytest.raises(UserError, match="no plan is made for 'dp'; did you mean ddp"):
        rows_of("dp")
