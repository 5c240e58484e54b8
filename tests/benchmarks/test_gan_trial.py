"""A GAN's trial leaves a complete record: its steps are batches, its metric is a distance, the best state is kept."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from running_suites import execute, make_data

from trainoff.benchmarks.engines.trainer import Surroundings, _Training, train
from trainoff.benchmarks.suite import load_suite
from trainoff.benchmarks.trial import Budget, Task, Trial
from trainoff.datamodules import Digits
from trainoff.errors import UserError
from trainoff.modules import Recipe
from trainoff.modules.frechet_distance import FrechetDistance
from trainoff.modules.nets import DCGAN

GAN = {"name": "gan", "net": {"name": "dcgan", "width": 4, "latent": 6}}
ADAM = {"name": "adam", "lr": 2e-3, "betas": [0.5, 0.999]}
BATCHES = math.ceil(1079 / 128)


def suite_of(recipes: dict[str, Any], metric: str = "frechet_distance", **others: Any) -> dict[str, Any]:
    data = make_data(recipes, module=GAN, **others)
    data["tasks"]["t"]["metric"] = metric
    return data


def trial_of(recipe: dict[str, Any], seed: int = 0, **budget: Any) -> Trial:
    task = Task("t", GAN, {"name": "digits"}, "frechet_distance", "min", Budget(**budget))
    return Trial("suite", task, "recipe", Recipe.of(recipe).to_dict(), {}, "final", seed, "", {})


@pytest.mark.parametrize(
    "recipe",
    [{"optimizer": ADAM}, {"optimizer": ADAM, "schedule": "cosine", "regularizers": ["r1", "ema"]}],
    ids=["plain", "with everything"],
)
def test_a_record_is_complete(recipe: dict[str, Any]) -> None:
    record = train(trial_of({**recipe, "batch": 128}, epochs=2), Surroundings())
    parameters = sum(p.numel() for p in DCGAN((1, 8, 8), latent=6, width=4).parameters())
    assert record.status == "ok", record.error
    assert record.cost.steps == 2 * BATCHES
    assert record.cost.epochs == 2
    curves, quality = record.curves, record.quality
    assert curves.steps == [BATCHES, 2 * BATCHES]
    series = msgspec.structs.asdict(curves)
    del series["gradient_norm"]  # Lightning lets go of the gradients before it validates
    assert all(len(values) == 2 and None not in values for values in series.values())
    assert quality.mode == "min"
    assert quality.best_epoch == 1 + curves.val_metric.index(min(curves.val_metric))  # type: ignore[type-var, arg-type]
    for splits in (quality.best, quality.last):
        for scores in (splits.train, splits.val, splits.test):
            assert scores.metric is not None
            assert scores.metric > 0
            assert scores.loss is not None
    assert record.cost.parameters == parameters  # not those of the metric's classifier
    assert record.cost.optimizer_state_bytes >= 2 * 4 * parameters
    assert record.cost.flops_per_sample > 0
    assert record.stability.last_finite_step == 2 * BATCHES
    expected = 0.0 if "schedule" in recipe else 2e-3
    assert curves.learning_rate[-1] == pytest.approx(expected, abs=1e-5)


def test_a_budget_of_steps_counts_batches() -> None:
    record = train(trial_of({"optimizer": ADAM, "batch": 64}, steps=20), Surroundings())
    assert record.status == "ok", record.error
    assert record.cost.steps == 20  # within the second epoch of 17
    assert record.curves.steps == [17, 20]


def test_every_recipe_starts_from_the_same_state_and_sees_the_same_order() -> None:
    recipes: list[dict[str, Any]] = [
        {"optimizer": ADAM, "batch": 64},
        {"optimizer": "rmsprop", "batch": 64, "regularizers": ["ema", "r1", {"name": "dropout", "p": 0.5}]},
    ]
    first, second = (train(trial_of(recipe, seed=1, steps=2), Surroundings()).trial for recipe in recipes)
    assert first.initial_state_digest == second.initial_state_digest
    assert first.order_digest == second.order_digest


def test_a_diverged_gan_is_recorded_as_such() -> None:
    recipe = {"optimizer": {"name": "sgd", "lr": 1e30}, "batch": 64}
    assert train(trial_of(recipe, steps=20), Surroundings()).status == "diverged"


@pytest.mark.parametrize(
    ("recipe", "metric", "message"),
    [
        ({"regularizers": ["mixup"]}, "frechet_distance", "Mixup needs a loss"),
        ({"optimizer": "lbfgs"}, "frechet_distance", "'lbfgs' needs more than a gradient"),
        (
            {"schedule": {"name": "plateau", "monitor": "val/accuracy"}},
            "frechet_distance",
            "no 'val/accuracy' is logged",
        ),
        ({}, "accuracy", "GAN logs no validation metric 'accuracy'; it logs val/frechet_distance, val/loss"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_trains(
    recipe: dict[str, Any], metric: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        execute(suite_of({"a": {"optimizer": ADAM, "batch": 64, **recipe}}, metric), tmp_path)
    assert not list(tmp_path.rglob("*.json"))


def test_the_shipped_suite_changes_one_thing_a_recipe() -> None:
    suite = load_suite("gan-tiny")
    assert suite.tasks[0].mode == "min"
    assert {recipe.name for recipe in suite.recipes} >= {"adam", "adam-r1", "adam-ema", "adam-r1-ema-batch-8"}


@pytest.mark.slow
def test_the_distance_falls_far_below_an_untrained_generator_s() -> None:
    """And stays above that of other real images, as many as are generated."""
    recipe = {"optimizer": ADAM, "batch": 8, "regularizers": [{"name": "r1"}, {"name": "ema", "decay": 0.99}]}
    trial = trial_of(recipe, epochs=8)
    wide = dataclasses.replace(trial.task, module={**GAN, "net": {"name": "dcgan", "width": 16, "latent": 16}})
    training = _Training(dataclasses.replace(trial, task=wide))
    training.run()
    module: Any = training.module
    features = module.features
    data = Digits()
    val, images = (module._to_unit(data.split(name)[0]) for name in ("val", "test"))
    real = FrechetDistance(32)
    real.update(features(val), features(images))
    untrained = FrechetDistance(32)
    fresh = DCGAN((1, 8, 8), latent=16, width=16)
    untrained.update(features(images), features(fresh.generate(torch.randn(len(images), 16))))
    trained = training.quality.best.test.metric
    assert trained is not None
    assert float(real.compute()) < trained < 0.05 * float(untrained.compute())
