"""Elastic width: which units are in at each step, what they learn, and what is left."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pruning_runs import Deep, OrderedData, copy_of, train
from torch import nn
from users_project import UsersData, UsersModule, make_trainer

from trainoff.errors import UserError
from trainoff.modules import Recipe

HIDDEN = ("net.0.weight", "net.2.weight")
SGD = {"name": "sgd", "lr": 0.2}


class Watcher(Deep):
    """Notes the weights that each forward pass sees in training."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(copy_of(self))
        return super().training_step(batch, batch_idx)


def kept_by_hand(weights, width):
    """By NumPy: the share of each layer's units with the largest mean absolute weight, one at least."""
    kept = {}
    for name in HIDDEN:
        importance = np.abs(weights[name]).astype(float).mean(1)
        out = np.argsort(importance, kind="stable")[: round((1 - width) * len(importance))]
        kept[name] = ~np.isin(np.arange(len(importance)), out)
    return kept


def masked(weights, kept):
    seen = {name: value.copy() for name, value in weights.items()}
    for name, units in kept.items():
        seen[name][~units] = 0
        seen[name.replace("weight", "bias")][~units] = 0
    return seen


def test_shrinking_by_hand():
    """24 steps in four parts: whole; of widths 1, 3/4; of 1, 3/4, 1/2; then 1/2 alone."""
    choice = {"name": "progressive_shrinking", "width": 0.5, "stages": 2}
    module, method, watch, _ = train(choice, module=Watcher(), optimizer=SGD)
    dense = {name: value.numpy().copy() for name, value in watch.initial.items()}
    net, widths, nets = Deep(), [], []
    whole = {name: np.ones(len(dense[name]), bool) for name in HIDDEN}
    for step, (inputs, targets) in enumerate([*OrderedData().train_dataloader()] * 4):
        part = step // 6
        if step % 6 == 0 and part in (1, 2):
            nets = [kept_by_hand(dense, 1 - 0.25 * i) for i in range(part + 1)]
        if part == 0:
            kept = whole
        elif part == 3:
            kept = nets[-1]
        else:
            drawn = int(torch.randint(part + 1, (), generator=torch.Generator().manual_seed(step)))
            kept = nets[drawn]
            widths.append((part, drawn))
        seen = masked(dense, kept)
        for name, value in seen.items():
            np.testing.assert_allclose(module.seen[step][name].numpy(), value, atol=1e-5)
        net.load_state_dict({name: torch.tensor(value) for name, value in seen.items()})
        net.zero_grad()
        net.loss(net.net(inputs), targets).backward()
        gradients = masked({n: p.grad.numpy() for n, p in net.named_parameters()}, kept)
        dense = {name: value - np.float32(0.2) * gradients[name] for name, value in dense.items()}
    assert {(1, 0), (1, 1), (2, 0), (2, 1)} <= set(widths)
    for name, value in masked(dense, nets[-1]).items():
        np.testing.assert_allclose(copy_of(module)[name].numpy(), value, atol=1e-5)
    assert [int(method.masks[name].any(1).sum()) for name in HIDDEN] == [8, 6]
    assert method.is_done


def test_validation_sees_the_narrowest_net_of_its_part():
    _, _, watch, _ = train({"name": "progressive_shrinking", "width": 0.5, "stages": 2}, optimizer=SGD)
    units = [[int((seen[name] != 0).any(1).sum()) for name in HIDDEN] for seen in watch.validated]
    assert units == [[16, 12], [12, 9], [8, 6], [8, 6]]


def test_growing_lets_the_next_units_in_as_they_were():
    """18 steps in three parts: of widths 1/2, 3/4 and 1, ranked by the initial weights."""
    choice = {"name": "progressive_shrinking", "direction": "grow", "width": 0.5, "stages": 2}
    module, method, watch, _ = train(choice, module=Watcher(), optimizer=SGD, epochs=3)
    initial = {name: value.numpy() for name, value in watch.initial.items()}
    before = {name: np.zeros(len(initial[name]), bool) for name in HIDDEN}
    for part, width in enumerate((0.5, 0.75, 1.0)):
        kept = kept_by_hand(initial, width)
        first = module.seen[6 * part]
        for name in HIDDEN:
            np.testing.assert_array_equal((first[name] != 0).all(1).numpy(), kept[name])
            np.testing.assert_array_equal((first[name] != 0).any(1).numpy(), kept[name])
            assert (kept[name] | ~before[name]).all()
            new = kept[name] & ~before[name]
            np.testing.assert_array_equal(first[name].numpy()[new], initial[name][new])
            assert new.any()
        before = kept
    assert method.is_done
    assert all(mask.all() for mask in method.masks.values())
    assert all((copy_of(module)[name] != 0).all() for name in HIDDEN)


def test_a_net_with_nothing_to_shrink_is_refused():
    class Single(UsersModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(6, 3)

    class Bottleneck(UsersModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(6, 1), nn.Linear(1, 3))

    for kind, part in ((Single, "no hidden layer whose units"), (Bottleneck, "no layer of hidden units that could")):
        module = Recipe("sgd", pruning="progressive_shrinking").apply(kind())
        with pytest.raises(UserError, match=f"pruning: {kind.__name__} has {part}"):
            make_trainer().fit(module, datamodule=UsersData())


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"width": 0.0}, "pruning.width: the narrowest net"),
        ({"width": 1.0}, "pruning.width: the narrowest net"),
        ({"stages": 0}, "pruning.stages: there is at least one"),
        ({"direction": "sideways"}, "pruning.direction: a net can shrink or grow"),
    ],
)
def test_numbers_out_of_range(arguments, part):
    with pytest.raises(UserError, match=part):
        Recipe(pruning={"name": "progressive_shrinking", **arguments}).validate()


def test_a_training_too_short_for_its_parts():
    module = Recipe("sgd", pruning={"name": "progressive_shrinking", "stages": 5}).apply(Deep())
    with pytest.raises(UserError, match="6 steps cannot be divided into 7 parts"):
        make_trainer(max_epochs=1).fit(module, datamodule=UsersData())
