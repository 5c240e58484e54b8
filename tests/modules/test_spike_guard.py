"""What the guard takes for a spike, and what it then leaves undone."""

from __future__ import annotations

import copy

import pytest
import torch
from users_project import UsersData, UsersModule, make_trainer

from trainoff.errors import UserError
from trainoff.modules import Recipe
from trainoff.modules.regularizers import SpikeGuard

SPIKE_AT = 8


class Spiky(UsersModule):
    """Full-batch training whose loss is a hundredfold, or nothing at all, in one step."""

    factor = 100.0

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss * self.factor if self.global_step == SPIKE_AT and not getattr(self, "is_over", False) else loss


def fit(action, steps, factor=100.0, microbatches=1, **arguments):
    module = Spiky()
    module.factor = factor
    torch.manual_seed(0)
    recipe = Recipe(
        {"name": "sgd", "lr": 0.1, "momentum": 0.9},
        regularizers=[{"name": "spike_guard", "action": action, **arguments}],
        batch=96,
        microbatches=microbatches,
    )
    recipe.apply(module)
    trainer = make_trainer(max_epochs=steps, **recipe.trainer_arguments())
    history = []

    def remember(*_):
        history.append(copy.deepcopy([p.detach() for p in module.parameters()]))

    module.on_train_batch_end = remember
    trainer.fit(module, datamodule=UsersData())
    (guard,) = [callback for callback in module.recipe_callbacks if isinstance(callback, SpikeGuard)]
    return guard, [torch.cat([p.flatten() for p in weights]) for weights in history], trainer


@pytest.mark.parametrize("factor", [100.0, float("nan"), float("inf")])
@pytest.mark.parametrize("microbatches", [1, 3])
def test_a_spike_is_skipped_and_momentum_with_it(factor, microbatches):
    guard, history, trainer = fit("skip", 12, factor, microbatches)
    assert guard.spikes == [SPIKE_AT]
    weights = history[microbatches - 1 :: microbatches]
    assert torch.equal(weights[SPIKE_AT], weights[SPIKE_AT - 1])
    assert not torch.equal(weights[SPIKE_AT + 1], weights[SPIKE_AT])
    assert trainer.global_step == 12  # schedules go on


def test_counting_changes_nothing():
    guard, history, _ = fit("count", 12)
    plain = fit("count", 12, factor=1.0)
    assert guard.spikes == [SPIKE_AT]
    assert plain[0].spikes == []
    torch.testing.assert_close(torch.stack(history[:SPIKE_AT]), torch.stack(plain[1][:SPIKE_AT]))
    assert (history[SPIKE_AT] - plain[1][SPIKE_AT]).abs().max() > 0.1


def test_rolling_back_restores_the_copy_before_the_last():
    _, history, _ = fit("roll_back", 12, every=2)
    # Copies are made before steps 0, 2, 4 and 6; kept are those of 4 and 6; step 4 begins with the weights after 3.
    assert torch.equal(history[SPIKE_AT], history[3])


def test_a_spike_is_measured_against_the_median():
    guard = SpikeGuard(factor=3.0, window=5)
    guard._losses.extend([1.0, 1.0, 2.0, 50.0, 2.0])
    assert guard._is_spike(6.1)
    assert not guard._is_spike(5.9)
    assert guard._is_spike(float("nan"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"action": "stop"}, "count, skip or roll_back"), ({"factor": 1.0}, "above 1"), ({"window": 4}, "at least 5")],
)
def test_nonsense_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        SpikeGuard(**arguments)
