"""The curriculum: its pacing by the formula, and its samples by NumPy."""

from __future__ import annotations

import math

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from users_project import UsersData, UsersModule, make_trainer, parameters_of

from trainoff.datamodules import Diabetes
from trainoff.errors import UserError
from trainoff.modules import Recipe, Regressor
from trainoff.modules.regularizers import Curriculum
from trainoff.modules.regularizers.curriculum import losses_of_samples


@given(start=st.floats(0.01, 1), until=st.floats(0.01, 1), total=st.integers(1, 500), step=st.integers(0, 600))
def test_the_pacing_is_its_formula(start, until, total, step):
    done = step / (until * total) if step < until * total else 1.0
    assert Curriculum(start, until).share_at(step, total) == pytest.approx(start + (1 - start) * done)
    root = math.sqrt(start**2 + (1 - start**2) * done)
    assert Curriculum(start, until, "root").share_at(step, total) == pytest.approx(root)


@given(share=st.floats(0.01, 0.999), samples=st.integers(1, 40), seed=st.integers(0, 999))
@settings(deadline=None)
def test_the_samples_are_those_of_least_loss(share, samples, seed):
    """Sorted in NumPy; a sample that is left out gets no gradient, and an admitted one its part of the mean."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(samples, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(4, (samples,), generator=generator)
    curriculum, loss = Curriculum(), nn.CrossEntropyLoss()
    curriculum._share = share
    value = curriculum.changed(loss, (logits, targets), loss(logits, targets))
    numbers = logits.detach().numpy()
    shares = np.exp(numbers) / np.exp(numbers).sum(1, keepdims=True)
    each = -np.log(shares[np.arange(samples), targets])
    admitted = np.argsort(each)[: math.ceil(share * samples)]
    assert float(value) == pytest.approx(each[admitted].mean(), abs=1e-12)
    (gradient,) = torch.autograd.grad(value, logits)
    expected = np.zeros_like(numbers)
    expected[admitted] = (shares - np.eye(4)[targets])[admitted] / len(admitted)
    np.testing.assert_allclose(gradient.numpy(), expected, atol=1e-12)


LOSSES = {
    nn.CrossEntropyLoss(label_smoothing=0.1): (torch.randn(5, 3, 2), torch.randint(3, (5, 2))),
    nn.NLLLoss(): (torch.randn(5, 3).log_softmax(1), torch.randint(3, (5,))),
    nn.BCEWithLogitsLoss(): (torch.randn(5, 2), torch.rand(5, 2)),
    nn.BCELoss(): (torch.rand(5), torch.rand(5)),
    nn.MSELoss(): (torch.randn(5, 2), torch.randn(5, 2)),
    nn.L1Loss(): (torch.randn(5, 1), torch.randn(5, 1)),
    nn.SmoothL1Loss(beta=0.3): (torch.randn(5), torch.randn(5)),
    nn.HuberLoss(delta=0.7): (torch.randn(5, 2, 2), torch.randn(5, 2, 2)),
}


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_a_samples_loss_is_the_loss_of_that_sample_alone(loss):
    assert {type(loss) for loss in LOSSES} == set(Curriculum.losses)
    inputs, targets = LOSSES[loss]
    alone = torch.stack([loss(inputs[i : i + 1], targets[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(losses_of_samples(loss, (inputs, targets)), alone)
    assert loss.reduction == "mean"


class Watch(UsersModule):
    """Notes each training loss, with what it would be of the easiest samples."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        each = F.cross_entropy(self.net(batch[0]), batch[1], reduction="none")
        self.seen.append((float(loss), each.detach().numpy()))
        return loss


@pytest.mark.parametrize("others", [[], ["label_smoothing"], [{"name": "confidence_penalty", "coefficient": 0.3}]])
def test_in_a_trainer_the_share_grows_with_the_steps(others):
    choice = {"name": "curriculum", "start": 0.25, "until": 0.5}
    module = Recipe({"name": "sgd", "lr": 0.1}, regularizers=[*others, choice]).apply(Watch())
    make_trainer(max_epochs=2).fit(module, datamodule=UsersData())
    if others == ["label_smoothing"]:  # a sample's loss is another one; the pacing is the same
        assert len(module.seen) == 12
        return
    for step, (loss, each) in enumerate(module.seen):
        share = 0.25 + 0.75 * min(1, step / 6)
        easiest = np.sort(each)[: math.ceil(share * 16)].mean()
        if others:
            assert loss < easiest  # less the entropy, which stays
        else:
            assert loss == pytest.approx(easiest, abs=1e-6)


def test_all_samples_are_the_plain_training():
    ended = []
    for regularizers in ([], [{"name": "curriculum", "start": 1.0}]):
        L.seed_everything(0, verbose=False)
        module = Recipe("sgd", regularizers=regularizers).apply(UsersModule())
        make_trainer(max_epochs=2).fit(module, datamodule=UsersData())
        ended.append(parameters_of(module))
    assert torch.equal(*ended)


def test_validation_sees_all_samples():
    losses = []
    for regularizers in ([], [{"name": "curriculum", "start": 0.1, "until": 1.0}]):
        L.seed_everything(0, verbose=False)
        module = Recipe({"name": "sgd", "lr": 0.0}, regularizers=regularizers).apply(UsersModule())
        trainer = make_trainer()
        trainer.fit(module, datamodule=UsersData())
        losses.append(float(trainer.callback_metrics["val_loss"]))
    assert losses[0] == losses[1]
    assert not module.loss._forward_hooks


def test_a_regression_has_easy_samples_too():
    recipe = Recipe({"name": "adamw", "lr": 0.01}, regularizers=["curriculum"])
    trainer = make_trainer(max_epochs=5)
    trainer.fit(Regressor({"name": "mlp", "hidden": [16]}, recipe), datamodule=Diabetes())
    assert float(trainer.callback_metrics["val/mse"]) < 1.0  # targets are standardised


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": 0.0}, r"lies in \(0, 1\], not 0.0"),
        ({"until": 1.5}, r"lies in \(0, 1\], not 1.5"),
        ({"pacing": "steps"}, "'linear' or 'root', not 'steps'"),
    ],
)
def test_values_out_of_range_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        Recipe(regularizers=[{"name": "curriculum", **changes}]).validate()


@pytest.mark.parametrize(
    ("loss", "trainer", "message"),
    [
        (nn.MultiMarginLoss(), {}, r"has no nn\.CrossEntropyLoss or nn\.NLLLoss"),
        (nn.CrossEntropyLoss(weight=torch.ones(3)), {}, "with weights is no plain mean"),
        (nn.CrossEntropyLoss(reduction="sum"), {}, "with reduction='sum' is no plain mean"),
        (nn.CrossEntropyLoss(), {"max_epochs": -1}, "needs an end"),
    ],
)
def test_what_has_no_easy_samples_is_refused(loss, trainer, message):
    module = UsersModule()
    module.loss = loss
    with pytest.raises(UserError, match=message) as caught:
        make_trainer(**trainer).fit(Recipe("sgd", regularizers=["curriculum"]).apply(module), datamodule=UsersData())
    assert "\n" not in str(caught.value)
