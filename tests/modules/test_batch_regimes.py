"""Full batch, mini-batches and single samples, through recipes, against closed forms and autograd."""

from __future__ import annotations

from typing import ClassVar

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn
from users_project import make_trainer, parameters_of

from trainoff.datamodules import DataModuleEntry, Digits, RawData, TensorBatches, TensorDataModule
from trainoff.modules import Classifier, Recipe, Regressor
from trainoff.modules.optimizer_building import build_optimizer

CURVATURE = 2.0


def single_samples(rate, epochs, seed=0):
    """SGD on fᵢ(x) = (a/2)(x − bᵢ)², one sample a step: all iterates after the first epoch."""
    targets = torch.randn(200, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    targets = (targets - targets.mean()) / targets.std(correction=0)
    net = nn.ParameterList([nn.Parameter(torch.zeros(1, dtype=torch.float64))])
    (weight,) = net.parameters()
    optimizer = build_optimizer(Recipe({"name": "sgd", "lr": rate}), net)
    batches = TensorBatches((targets,), batch_size=1, shuffle=True, replacement=True, seed=seed)
    iterates = []
    for epoch in range(epochs):
        batches.set_epoch(epoch)
        for (target,) in batches:
            weight.grad = CURVATURE * (weight.detach() - target)
            optimizer.step()
            iterates.append(weight.item())
    return np.array(iterates[200:])


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
def test_the_noise_ball_of_single_samples_has_its_radius(rate):
    """Var x = lr·a·σ²/(2 − lr·a) around the minimum, where samples are drawn with replacement."""
    step = rate * CURVATURE
    variance = step / (2 - step)  # σ² = 1
    drawn = single_samples(rate, epochs=120)
    # The iterates are an autoregression with factor ρ = 1 − lr·a, by which the sampled variance is less sure.
    factor = (1 - step) ** 2
    deviation = variance * np.sqrt(2 / len(drawn) * (1 + factor) / (1 - factor))
    assert drawn.var() == pytest.approx(variance, abs=4 * deviation)
    assert drawn.mean() == pytest.approx(0, abs=4 * np.sqrt(variance / len(drawn) * (2 - step) / step))


def test_full_batch_descent_is_the_quadratics_closed_form():
    """x_t = b̄ + (1 − lr·a)ᵗ(x₀ − b̄), a = 2 for the mean squared error of a bias alone."""

    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.value = nn.Parameter(torch.tensor([[5.0]]))

        def forward(self, inputs):
            return self.value.expand(len(inputs), 1)

    module = Regressor(Constant(), Recipe({"name": "sgd", "lr": 0.1}, batch="full", microbatches=7))
    trainer = make_trainer(max_epochs=12, **module.recipe.trainer_arguments())
    trainer.fit(module, datamodule=Numbers())
    mean = float(Numbers().split("train")[1].mean())
    assert trainer.global_step == 12
    assert module.net.value.item() == pytest.approx(mean + (1 - 0.1 * 2) ** 12 * (5 - mean), abs=1e-5)


class Numbers(TensorDataModule):
    """121 numbers to learn from."""

    facts: ClassVar[DataModuleEntry] = DataModuleEntry(
        name="numbers", target=f"{__name__}:Numbers", summary="numbers", num_samples=201, input_shape=(1,),
        num_classes=None, licence="none needed: generated",
    )  # fmt: skip

    def raw_data(self) -> RawData:
        numbers = np.random.default_rng(0).normal(size=201).astype(np.float32)
        return RawData(numbers[:, None], numbers)


@pytest.mark.parametrize("microbatches", [1, 2, 7, 10, 121])
def test_a_full_batch_in_parts_is_autograd_of_the_mean_loss(microbatches):
    """121 samples: no number of parts but 1, 11 and 121 divides them."""
    recipe = Recipe({"name": "sgd", "lr": 0.5}, batch="full", microbatches=microbatches)
    module = Regressor({"name": "mlp", "hidden": [8]}, recipe, input_shape=(1,), output_size=1)
    inputs, targets = Numbers().split("train")
    assert len(inputs) == 121
    loss = ((module(inputs) - targets) ** 2).mean()
    slopes = torch.autograd.grad(loss, list(module.parameters()))
    expected = torch.cat([(p - 0.5 * g).flatten() for p, g in zip(module.parameters(), slopes, strict=True)])
    make_trainer(**recipe.trainer_arguments()).fit(module, datamodule=Numbers())
    torch.testing.assert_close(parameters_of(module), expected.detach().double(), rtol=0, atol=1e-6)


def test_a_mini_batch_of_all_samples_is_the_full_batch():
    ended = []
    for batch in ("full", 121):
        L.seed_everything(0, verbose=False)
        module = Regressor({"name": "mlp", "hidden": [8]}, Recipe({"name": "sgd", "lr": 0.5}, batch=batch))
        trainer = make_trainer(max_epochs=5)
        trainer.fit(module, datamodule=Numbers())
        assert trainer.global_step == 5
        ended.append(parameters_of(module))
    torch.testing.assert_close(*ended, rtol=0, atol=1e-6)


class Seen(L.Callback):
    """How often each sample was trained on, by its place in the training split, epoch by epoch."""

    def __init__(self, inputs):
        self.places = {sample.numpy().tobytes(): place for place, sample in enumerate(inputs)}
        self.counts = []

    def on_train_epoch_start(self, trainer, pl_module):
        self.counts.append(np.zeros(len(self.places), dtype=int))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        for sample in batch[0]:
            self.counts[-1][self.places[sample.numpy().tobytes()]] += 1


@pytest.mark.parametrize("batch", [1, 32])
@pytest.mark.parametrize("replacement", [False, True])
def test_each_epoch_draws_as_many_samples_as_there_are(batch, replacement):
    """Without replacement each once; with it a share of about 1 − 1/e at least once."""
    seen = Seen(Numbers().split("train")[0])
    module = Regressor("linear", Recipe({"name": "sgd", "lr": 0.01}, batch=batch))
    trainer = make_trainer(max_epochs=3, callbacks=[seen])
    trainer.fit(module, datamodule=Numbers(replacement=replacement))
    assert trainer.global_step == 3 * -(-121 // batch)
    for counts in seen.counts:
        assert counts.sum() == 121
        if replacement:
            assert (counts > 0).mean() == pytest.approx(1 - np.exp(-1), abs=0.12)
        else:
            assert (counts == 1).all()


def test_with_replacement_a_classifier_learns_too():
    trainer = make_trainer(max_epochs=2)
    trainer.fit(Classifier("linear", Recipe({"name": "sgd", "lr": 0.01}, batch=1)), Digits(replacement=True))
    assert float(trainer.callback_metrics["val/accuracy"]) > 0.8
