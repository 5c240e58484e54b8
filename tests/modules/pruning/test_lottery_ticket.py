"""The lottery ticket: rewound to the very bits, with the masks of each round's training by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pruning_runs import OPTIMIZERS, Deep, OrderedData, copy_of, train
from torch import nn
from users_project import UsersData, UsersModule, make_trainer

from trainoff.errors import UserError
from trainoff.modules import Recipe
from trainoff.modules.pruning import Pruning

WEIGHTS = ("net.0.weight", "net.2.weight", "net.4.weight")
SGD = {"name": "sgd", "lr": 0.1, "momentum": 0.9}


def by_hand(initial, masks, steps, first=0):
    """Plain SGD with momentum on the masked net, from the initial weights."""
    net = Deep()
    net.load_state_dict(initial)
    with torch.no_grad():
        for name, mask in masks.items():
            dict(net.named_parameters())[name].mul_(mask)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    batches = [*OrderedData().train_dataloader()]
    for step in range(first, first + steps):
        inputs, targets = batches[step % len(batches)]
        optimizer.zero_grad()
        net.loss(net.net(inputs), targets).backward()
        for name, parameter in net.named_parameters():
            parameter.grad.mul_(masks.get(name, 1))
        optimizer.step()
    return copy_of(net)


def smallest_out(weights, masks, share):
    flat = np.concatenate([np.where(masks[n], np.abs(weights[n].numpy()), -1).ravel() for n in WEIGHTS])
    keep = np.ones(flat.size, bool)
    keep[np.argsort(flat, kind="stable")[: round(share * flat.size)]] = False
    parts = np.split(keep, np.cumsum([weights[n].numel() for n in WEIGHTS])[:-1])
    return {n: torch.tensor(part.reshape(weights[n].shape)) for n, part in zip(WEIGHTS, parts, strict=True)}


def test_each_round_is_a_training_by_itself_from_the_initial_bits():
    """24 steps in three parts of 8."""
    module, method, watch, _ = train({"name": "lottery_ticket", "sparsity": 0.75, "rounds": 2}, optimizer=SGD)
    masks = {name: torch.ones_like(watch.initial[name], dtype=torch.bool) for name in WEIGHTS}
    for number in range(3):
        # What the part's second step begins with is one step from the initial weights under the mask.
        after_one = by_hand(watch.initial, masks, 1, first=8 * number)
        for name, value in watch.begun[8 * number + 1].items():
            torch.testing.assert_close(value, after_one[name], rtol=0, atol=1e-7)
        ended = by_hand(watch.initial, masks, 8, first=8 * number)
        if number < 2:
            masks = smallest_out(ended, masks, 1 - 0.25 ** ((number + 1) / 2))
    for name, mask in masks.items():
        assert torch.equal(method.masks[name], mask)
    for name, value in copy_of(module).items():
        torch.testing.assert_close(value, ended[name], rtol=0, atol=1e-6)
    assert method.is_done


class Fixed(Pruning):
    """Given masks, from the first step."""

    def __init__(self, masks):
        super().__init__()
        self._given = masks

    def before_step(self, trainer, module, step):
        if step == 0:
            self.set_masks(trainer, self._given)


class Watcher(UsersModule):
    """Notes the weights that each forward pass sees in training."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 3))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append({name: value.detach().clone() for name, value in self.state_dict().items()})
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize(("rewind", "step"), [(0.0, 0), (0.25, 2)])
def test_it_rewinds_to_the_bits_buffers_too(rewind, step):
    choice = {"name": "lottery_ticket", "rounds": 2, "rewind": rewind}
    module, method, _, _ = train(choice, module=Watcher(), optimizer=SGD)
    early = module.seen[step]
    for first in (8, 16):
        rewound = module.seen[first]
        for name, value in early.items():
            if name in method.masks:
                kept = rewound[name] != 0
                assert torch.equal(rewound[name][kept], value[kept])
                assert 0 < int(kept.sum()) < kept.numel()
            else:
                assert torch.equal(rewound[name], value), name


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS.keys() - {"second derivatives"}))  # that one draws at random
def test_every_kind_of_optimizer_begins_anew(optimizer):
    """Trained again by itself, with the ticket's masks from the start, the second part ends at the same weights."""
    module, method, watch, _ = train({"name": "lottery_ticket", "rounds": 1}, optimizer=OPTIMIZERS[optimizer])
    alone = Deep()
    alone.load_state_dict(watch.initial)
    Recipe(OPTIMIZERS[optimizer]).apply(alone)
    trainer = make_trainer(max_epochs=2, callbacks=[Fixed(method.masks)], num_sanity_val_steps=0)
    trainer.fit(alone, datamodule=OrderedData())
    for name, value in copy_of(module).items():
        torch.testing.assert_close(copy_of(alone)[name], value, rtol=0, atol=1e-6)


def test_the_schedule_goes_on():
    _, _, _, trainer = train({"name": "lottery_ticket", "rounds": 2}, schedule="linear")
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "part"), [({"rounds": 0}, "pruning.rounds: there is at least"), ({"rewind": 1.0}, "pruning.rewind:")]
)
def test_numbers_out_of_range(arguments, part):
    with pytest.raises(UserError, match=part):
        Recipe(pruning={"name": "lottery_ticket", **arguments}).validate()


def test_a_training_too_short_for_its_rounds():
    module = Recipe("sgd", pruning={"name": "lottery_ticket", "rounds": 6}).apply(Deep())
    with pytest.raises(UserError, match="6 steps cannot be divided into 7 parts"):
        make_trainer(max_epochs=1).fit(module, datamodule=UsersData())
