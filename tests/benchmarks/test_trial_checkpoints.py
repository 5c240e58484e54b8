"""A training that goes on from a trial's checkpoint ends where an uninterrupted one does, meters included."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from users_project import UsersData, UsersModule, make_trainer, parameters_of

from trainoff.benchmarks.checkpoint_interval import CheckpointInterval, CheckpointPlace
from trainoff.benchmarks.engines import trial_checkpoints
from trainoff.benchmarks.engines.trial_checkpoints import TrialCheckpoints
from trainoff.benchmarks.meters.curves import CurveMeter
from trainoff.benchmarks.meters.flops import FlopMeter
from trainoff.benchmarks.meters.group import MeterGroup
from trainoff.benchmarks.meters.stability import DivergenceGuard
from trainoff.benchmarks.meters.time import TimeMeter
from trainoff.benchmarks.randomness import DerivedGenerators, seed_everything
from trainoff.benchmarks.trial import Budget, Task
from trainoff.datamodules import Digits
from trainoff.modules import AtomicCheckpointIO, Classifier, Recipe

RECIPE = Recipe({"name": "adamw", "lr": 0.01}, "cosine", ["ema", {"name": "dropout", "p": 0.3}, "mixup"], batch=128)


BY_EPOCHS, BY_MINUTES = CheckpointInterval(epochs=1), CheckpointInterval(minutes=0.5)


class Killed(BaseException):
    """What comes from outside."""


class KillAt(L.Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            raise Killed


class Clock:
    """Five seconds go by at each look."""

    def __init__(self):
        self.seconds = 0.0

    def monotonic(self):
        self.seconds += 5
        return self.seconds


def ours():
    return Classifier({"name": "mlp", "hidden": [16], "dropout": 0.1}, RECIPE), Digits()


def theirs():
    return RECIPE_OF_THEIRS.apply(UsersModule()), UsersData()


RECIPE_OF_THEIRS = Recipe({"name": "sgd", "lr": 0.1, "momentum": 0.9}, batch=16)


class Training:
    """The meters of a trial around a training of three epochs."""

    def __init__(self, make, place, *callbacks):
        seed_everything(5)
        self.module, self.data = make()
        budget = Budget(epochs=3)
        task = Task("t", {}, {}, "accuracy" if make is ours else "acc", "max", budget, target=0.5)
        self.clock = TimeMeter()
        self.curves, self.generators = CurveMeter(task, self.clock), DerivedGenerators(5)
        self.flops, self.guard = FlopMeter(), DivergenceGuard()
        meters = [self.generators, self.flops, self.guard, self.clock, self.curves]
        self.checkpoints = TrialCheckpoints(place)
        self.trainer = make_trainer(
            max_epochs=3,
            callbacks=[MeterGroup(meters), *callbacks, self.checkpoints],
            plugins=[AtomicCheckpointIO()],
            enable_checkpointing=True,
            num_sanity_val_steps=0,
        )

    def fit(self, path=None):
        self.trainer.fit(self.module, datamodule=self.data, ckpt_path=path, weights_only=True)
        return self

    def results(self):
        curves = self.curves.curves
        return {
            "parameters": parameters_of(self.module),
            "curves": [curves.train_loss, curves.val_loss, curves.val_metric, curves.learning_rate, curves.steps],
            "best": (self.curves.best_epoch, self.curves.best_value),
            "best state": self.curves.best_state,
            "target": None if self.curves.to_target is None else self.curves.to_target[1:],
            "flops": self.flops.flops_per_sample,
            "initial state": self.generators.initial_state_digest,
            "last finite step": self.guard.last_finite_step,
            "samples": self.clock._counted_samples,
            "timed steps": len(self.clock.step_seconds),
        }


@pytest.mark.parametrize("make", [ours, theirs])
@pytest.mark.parametrize("killed_at", [10, 13, 17])
@pytest.mark.parametrize("every", [BY_EPOCHS, BY_MINUTES], ids=["epochs", "minutes"])
def test_killed_and_gone_on_with_it_is_what_it_would_have_been(make, killed_at, every, tmp_path, monkeypatch):
    """An epoch of ours has 9 steps, one of theirs 6: by the clock ours are saved within it, theirs at its end."""
    monkeypatch.setattr(trial_checkpoints, "time", Clock())
    straight = Training(make, CheckpointPlace(tmp_path / "straight.ckpt", every)).fit()
    place = CheckpointPlace(tmp_path / "a.ckpt", every)
    killed = Training(make, place, KillAt(killed_at))
    with pytest.raises(Killed):
        killed.trainer.fit(killed.module, datamodule=killed.data)
    if every.epochs:
        steps = 9 if make is ours else 6
        assert torch.load(place.path, weights_only=True)["global_step"] == killed_at // steps * steps
    resumed = Training(make, place).fit(place.path)
    for (name, value), expected in zip(resumed.results().items(), straight.results().values(), strict=True):
        if name in ("parameters", "best state"):
            torch.testing.assert_close(value, expected, rtol=0, atol=0)
        else:
            assert value == expected, name
    assert resumed.checkpoints.earlier_seconds > 0


def test_by_the_clock_ours_are_saved_within_an_epoch_and_theirs_at_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(trial_checkpoints, "time", Clock())
    steps = {}
    for make in (ours, theirs):
        place = CheckpointPlace(tmp_path / f"{make.__name__}.ckpt", BY_MINUTES)
        with pytest.raises(Killed):
            Training(make, place, KillAt(17)).fit()
        steps[make] = torch.load(place.path, weights_only=True)["global_step"]
    assert steps[ours] % 9
    assert steps[theirs] % 6 == 0
