"""The memory of a step against counting by hand, and against torch's allocator."""

from __future__ import annotations

import time

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor

from trainoff.benchmarks.measure_memory import FURTHER, NETS_MEASURED, OPTIMIZERS, Cell, measure_in_process
from trainoff.benchmarks.meters.memory import peak_bytes, reset_peak
from trainoff.benchmarks.planning.fake_tensors import fake_tensors
from trainoff.benchmarks.planning.net_training import NetTraining, parts_of
from trainoff.benchmarks.planning.tracked_step import track_step
from trainoff.modules.net_building import build_net
from trainoff.modules.nets import NETS
from trainoff.modules.recipe import Recipe

INPUTS, HIDDEN, CLASSES = 12, 32, 10
PARAMETERS = (INPUTS + 1) * HIDDEN + (HIDDEN + 1) * CLASSES
MLP = NetTraining({"name": "mlp", "hidden": [HIDDEN]}, "classifier", (INPUTS,), CLASSES)


def track(recipe, training=MLP, samples=8, **options):
    made = Recipe.of(recipe)
    batches = [training.batch(part) for part in parts_of(samples, made.microbatches)]
    return track_step(lambda: training.build(made), made, batches, training.facts, **options)


@pytest.mark.parametrize(
    ("optimizer", "numbers_each", "scalars_each"),
    [
        ("sgd", 0, 0),
        ({"name": "sgd", "momentum": 0.9}, 1, 0),
        ("adamw", 2, 1),  # and the step
        ({"name": "adamw", "amsgrad": True}, 3, 1),
        ("rmsprop", 1, 1),
    ],
)
def test_states_are_what_the_optimizers_formula_keeps(optimizer, numbers_each, scalars_each):
    step = track({"optimizer": optimizer})
    assert step.parameter_count == PARAMETERS
    assert step.parameters == step.gradients == 4 * PARAMETERS
    assert step.optimizer_state == 4 * (numbers_each * PARAMETERS + scalars_each * 4)  # four tensors


def test_activations_are_what_each_layer_keeps_for_the_backward_pass():
    step = track("sgd", samples=8)
    hidden, outputs = 8 * HIDDEN * 4, 8 * CLASSES * 4  # ReLU's output; log-softmax' output, and the logits themselves
    assert hidden + outputs <= step.activations <= 2 * (hidden + outputs) + 64


def test_operations_are_those_of_the_products():
    first, second = 2 * INPUTS * HIDDEN, 2 * HIDDEN * CLASSES
    assert track("sgd").flops_per_sample == 2 * first + 3 * second  # the first layer needs no gradient of its inputs


def test_an_average_is_a_copy():
    plain, averaged = track("adamw"), track("adamw-ema")
    assert 0 <= averaged.copies - plain.copies - 4 * PARAMETERS < 512  # metrics are averaged too
    assert averaged.peak - plain.peak == averaged.copies - plain.copies


def test_the_best_state_is_a_copy():
    assert 0 <= track("sgd", keeps_best=True).copies - 4 * PARAMETERS < 64


def test_micro_batches_need_their_own_activations_only():
    assert track({"microbatches": 4}).activations == track("adamw", samples=2).activations


def test_half_precision_is_half():
    whole, half = track("adamw"), track({"precision": "bf16-true"})
    assert (half.parameters, half.gradients) == (whole.parameters // 2, whole.gradients // 2)


def test_recomputed_blocks_keep_less():
    net = NetTraining({"name": "gpt2", "width": 32, "depth": 6, "heads": 2}, "language_model", (16,), 50)
    kept, recomputed = track("adamw", net), track({"activation_checkpointing": True}, net)
    assert recomputed.activations < 0.4 * kept.activations
    assert recomputed.parameters == kept.parameters
    assert recomputed.flops_per_sample > kept.flops_per_sample  # the blocks' forward pass comes twice


def test_attention_on_a_gpu_keeps_no_weights_of_attention():
    net = NetTraining({"name": "gpt2", "width": 32, "depth": 1, "heads": 2}, "language_model", (64,), 50)
    on_cpu, on_gpu = (track("sgd", net, kernels=kernels).activations for kernels in ("cpu", "gpu"))
    weights = 8 * 2 * 64 * 64 * 4
    assert on_cpu - on_gpu > weights


def test_a_plan_of_a_billion_parameters_takes_no_memory():
    net = {"name": "gpt2", "width": 2048, "depth": 24, "heads": 16}
    training = NetTraining(net, "language_model", (1024,), 50_257)
    track("adamw")  # whatever is imported at first
    device = torch.device("cpu")
    reset_peak(device)
    before, begin = peak_bytes(device), time.process_time()
    step = track("adamw", training)
    assert step.parameter_count == 1_313_626_112
    assert step.peak > 40e9
    assert peak_bytes(device) - before < 300e6
    assert time.process_time() - begin < 60  # 6 s alone on a core


@pytest.mark.parametrize("name", NETS.names())
def test_every_net_is_planned(name):
    entry = NETS[name]
    image = (3, 32, 32) if name != "lenet5" else (1, 32, 32)
    shape = entry.tiny_shape if entry.domain in ("series", "tokens", "token pairs") else image
    outputs = 1 if entry.domain == "image generation" else 10
    training = NetTraining.of({"name": name, **entry.tiny}, "", shape, outputs)
    step = track("adamw", training, samples=4)
    net = build_net(training.net, shape, outputs)
    assert step.parameter_count == sum(p.numel() for p in net.parameters() if p.requires_grad)
    assert step.peak >= step.parameters + step.optimizer_state


def test_torch_is_left_as_it_was():
    swap, deepcopy = torch.utils.swap_tensors, FakeTensor.__deepcopy__
    with fake_tensors():
        assert isinstance(torch.ones(2), FakeTensor)
    assert (torch.utils.swap_tensors, FakeTensor.__deepcopy__) == (swap, deepcopy)
    assert not isinstance(torch.ones(2), FakeTensor)


def test_values_that_are_asked_for_are_there():
    with fake_tensors():
        numbers = torch.randn(3, 4)
        assert isinstance(numbers.sum().item(), float)
        assert not (numbers > 9).any()
        assert torch.isfinite(numbers).all()
        assert numbers[numbers > 0].shape == (12,)  # all of them: the most
        assert torch.equal(numbers, numbers)


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell",
    [
        Cell("mlp 2048-2048, batch 256", "lamb"),
        Cell("resnet18, 64 x 64, batch 32", "sgd, momentum"),
        Cell("gpt2 4 x 256, 256 tokens, batch 8", "adamw"),
    ],
)
def test_the_predicted_peak_is_the_measured_one(cell):
    resident, allocated = measure_in_process(cell)
    assert cell.predict() == pytest.approx(allocated, rel=0.1)
    assert cell.predict() == pytest.approx(resident, rel=0.1)


def test_the_measured_cells_are_five_nets_by_three_optimizers():
    assert (len(NETS_MEASURED), len(OPTIMIZERS)) == (5, 3)
    for fields in {**OPTIMIZERS, **FURTHER}.values():
        Recipe.of(fields).validate()
