"""Pruning at initialisation: SynFlow and SNIP against gradients by hand, and SynFlow's conservation law."""

from __future__ import annotations

import itertools

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pruning_runs import Deep, OrderedData, copy_of, train
from torch import nn
from users_project import UsersData, UsersModule, make_trainer

from trainoff.datamodules import Digits
from trainoff.errors import UserError
from trainoff.modules import Classifier, Recipe
from trainoff.modules.pruning.base import pruning_of
from trainoff.modules.pruning.synflow import sample_shape, synaptic_flow

WEIGHTS = ("net.0.weight", "net.2.weight", "net.4.weight")


def flow_by_hand(weights, biases):
    """Of |W₃|(|W₂|(|W₁|·1 + |b₁|) + |b₂|) + |b₃|, by the chain rule in NumPy."""
    forward, inputs = np.ones(weights[0].shape[1]), []
    for weight, bias in zip(weights, biases, strict=True):
        inputs.append(forward)
        forward = np.abs(weight) @ forward + np.abs(bias)  # positive: the ReLU passes it
    total, backward, scores = forward.sum(), np.ones(len(forward)), []
    for weight, entering in zip(weights[::-1], inputs[::-1], strict=True):
        scores.append(np.outer(backward, entering) * np.abs(weight))
        backward = np.abs(weight).T @ backward
    return total, scores[::-1]


def numpy_of(module):
    layers = [part for part in module.modules() if isinstance(part, nn.Linear)]
    return [p.weight.detach().double().numpy() for p in layers], [p.bias.detach().double().numpy() for p in layers]


def test_the_flow_is_the_chain_rules():
    torch.manual_seed(3)
    module = Deep()
    scores = synaptic_flow(module, (6,), WEIGHTS)
    _, expected = flow_by_hand(*numpy_of(module))
    for name, score in zip(WEIGHTS, expected, strict=True):
        np.testing.assert_allclose(scores[name].numpy(), score, rtol=1e-12)
    assert module.training
    assert all(parameter.grad is None for parameter in module.parameters())


@given(widths=st.lists(st.integers(1, 8), min_size=3, max_size=5), seed=st.integers(0, 50))
@settings(deadline=None, max_examples=30)
def test_what_flows_into_a_hidden_unit_flows_out_and_each_layer_has_all_of_it(widths, seed):
    """Theorem 1 of the paper; with biases, the bias's own part flows in too, so here there are none."""
    torch.manual_seed(seed)
    layers = [nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(widths)]
    net = nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1])
    names = [name for name, _ in net.named_parameters()]
    scores = [synaptic_flow(net, (widths[0],), names)[name] for name in names]
    for first, second in itertools.pairwise(scores):
        torch.testing.assert_close(first.sum(1), second.sum(0))
    total = torch.ones(widths[0], dtype=torch.float64)
    for layer in layers:
        total = layer.weight.detach().double().abs() @ total
    for score in scores:
        torch.testing.assert_close(score.sum(), total.sum())


def test_synflow_prunes_in_rounds_before_the_first_step():
    _, method, watch, _ = train({"name": "synflow", "sparsity": 0.8, "rounds": 7})
    module = Deep()
    module.load_state_dict(watch.initial)
    weights, biases = numpy_of(module)
    sizes = [weight.size for weight in weights]
    for number in range(1, 8):
        _, scores = flow_by_hand(weights, biases)
        flat = np.concatenate([score.ravel() for score in scores])
        gone = np.concatenate([weight.ravel() == 0 for weight in weights])
        order = np.argsort(np.where(gone, -1, flat), kind="stable")
        count = round((1 - 0.2 ** (number / 7)) * flat.size)
        keep = np.ones(flat.size, bool)
        keep[order[:count]] = False
        parts = np.split(keep, np.cumsum(sizes)[:-1])
        weights = [weight * part.reshape(weight.shape) for weight, part in zip(weights, parts, strict=True)]
    for name, weight in zip(WEIGHTS, weights, strict=True):
        np.testing.assert_array_equal(method.masks[name].numpy(), weight != 0)
        np.testing.assert_array_equal(watch.begun[0][name].numpy(), weight.astype(np.float32))


def test_no_layer_dies_where_magnitude_would_cut_it():
    """A layer of small weights: its flow is all the flow, so that iterative pruning leaves it some (section 5)."""

    class Scaled(Deep):
        def __init__(self):
            super().__init__()
            for layer in self.net[::2]:
                layer.bias = None
            with torch.no_grad():
                self.net[2].weight.mul_(0.01)

    _, method, _, _ = train({"name": "synflow", "sparsity": 0.9}, module=Scaled(), epochs=1)
    assert all(mask.any() for mask in method.masks.values())
    _, method, _, _ = train({"name": "magnitude", "sparsity": 0.9, "at": 0.0}, module=Scaled(), epochs=1)
    assert not method.masks["net.2.weight"].any()


def test_snip_keeps_what_means_most_to_the_first_batchs_loss():
    optimizer = {"name": "sgd", "lr": 0.1}
    _, method, watch, _ = train({"name": "snip", "sparsity": 0.7}, optimizer=optimizer, batch=16)
    module = Deep()
    module.load_state_dict(watch.initial)
    inputs, targets = next(iter(OrderedData(16).train_dataloader()))
    module.loss(module.net(inputs), targets).backward()
    gradients = {name: p.grad.numpy() for name, p in module.named_parameters()}
    flat = np.concatenate([np.abs(gradients[n] * watch.initial[n].numpy()).ravel() for n in WEIGHTS])
    threshold = np.sort(flat)[round(0.7 * flat.size)]
    for name in WEIGHTS:
        initial = watch.initial[name].numpy()
        kept = np.abs(gradients[name] * initial) >= threshold
        np.testing.assert_array_equal(method.masks[name].numpy(), kept)
        np.testing.assert_allclose(
            watch.begun[1][name].numpy(), (initial - 0.1 * gradients[name]) * kept, rtol=1e-5, atol=1e-7
        )


def test_snip_in_micro_batches_is_snip_of_the_batch():
    whole = train({"name": "snip"}, batch=16, epochs=1)[1]
    parts = train({"name": "snip"}, batch=16, microbatches=4, epochs=1, trainer={"accumulate_grad_batches": 4})[1]
    assert all(torch.equal(parts.masks[name], mask) for name, mask in whole.masks.items())


@pytest.mark.parametrize("optimizer", ["sam", "lbfgs", "adahessian"])
def test_snip_wants_one_gradient_a_step(optimizer):
    with pytest.raises(UserError, match=f"'snip' prunes between gradient and step, which '{optimizer}' does not"):
        Recipe(optimizer, pruning="snip").validate()


def test_where_the_shape_of_a_sample_comes_from():
    L.seed_everything(0, verbose=False)
    module = Classifier({"name": "mlp", "hidden": [8]}, recipe=Recipe(pruning="synflow"))
    trainer = make_trainer()
    trainer.fit(module, datamodule=Digits())
    assert sample_shape(trainer, module) == tuple(module.hparams["input_shape"])
    users = Deep()
    users.example_input_array = torch.zeros(5, 6)
    assert sample_shape(trainer, users) == (6,)


def test_a_look_at_a_batch_changes_no_order():
    class Seen(Deep):
        def __init__(self):
            super().__init__()
            self.seen = []

        def training_step(self, batch, batch_idx):
            self.seen.append(batch[0][:, 0].tolist())
            return super().training_step(batch, batch_idx)

    orders = []
    for pruning in (None, "synflow"):
        L.seed_everything(7, verbose=False)
        module = Recipe("sgd", pruning=pruning).apply(Seen())
        make_trainer(max_epochs=2).fit(module, datamodule=UsersData())
        orders.append(module.seen)
    assert orders[0] == orders[1]


def test_a_module_that_cannot_run_alone_is_refused():
    module = Recipe("sgd", pruning="synflow").apply(UsersModule())
    with pytest.raises(UserError, match="synflow runs the net alone, and UsersModule has no forward"):
        make_trainer().fit(module, datamodule=UsersData())


def test_so_is_a_net_that_takes_no_ones():
    class Odd(Deep):
        def forward(self, inputs):
            if inputs.dtype == torch.float64:
                raise ValueError("nothing of\nthe kind")
            return self.net(inputs)

    module = Recipe("sgd", pruning="synflow").apply(Odd())
    with pytest.raises(UserError, match="which raised: nothing of the kind"):
        make_trainer().fit(module, datamodule=UsersData())


def test_movement_is_its_sum_by_hand():
    """S, dense weights and masks in NumPy over 24 steps; pruned weights keep their value, and scores go on."""
    choice = {"name": "movement", "sparsity": 0.6, "start": 0.25, "end": 0.75, "updates": 6}
    module, method, watch, _ = train(choice, optimizer={"name": "sgd", "lr": 0.3})
    net = Deep()
    dense = {name: value.numpy().copy() for name, value in watch.initial.items()}
    scores = {name: np.zeros_like(dense[name]) for name in WEIGHTS}
    masks = {name: np.ones(dense[name].shape, bool) for name in WEIGHTS}
    came_back = 0
    for step, (inputs, targets) in enumerate([*OrderedData().train_dataloader()] * 4):
        if 6 <= step <= 18 and (step - 6) % 2 == 0:
            sparsity = 0.6 - 0.6 * (1 - (step - 6) / 12) ** 3
            for name in WEIGHTS:
                keep = np.ones(scores[name].size, bool)
                keep[np.argsort(scores[name].ravel(), kind="stable")[: round(sparsity * keep.size)]] = False
                keep = keep.reshape(masks[name].shape)
                came_back += (keep & ~masks[name]).sum()
                masks[name] = keep
        net.load_state_dict({n: torch.tensor(value * masks.get(n, 1)) for n, value in dense.items()})
        net.zero_grad()
        net.loss(net.net(inputs), targets).backward()
        for name, parameter in net.named_parameters():
            gradient = parameter.grad.numpy()
            if name in scores and step < 18:
                scores[name] -= np.float32(0.3) * gradient * dense[name]
            dense[name] = dense[name] - np.float32(0.3) * gradient * masks.get(name, 1)
    for name in WEIGHTS:
        np.testing.assert_array_equal(method.masks[name].numpy(), masks[name])
        np.testing.assert_allclose(method.scores[name].numpy(), scores[name], atol=1e-5)
        np.testing.assert_allclose(copy_of(module)[name].numpy(), dense[name] * masks[name], atol=1e-5)
    assert method.spliced == came_back
    assert pruning_of(module) is method
