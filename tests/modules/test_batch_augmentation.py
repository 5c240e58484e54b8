"""Mixup, CutMix, cutout and input noise: against their formulas, on slices of a data set, in anyone's module."""

from __future__ import annotations

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from users_project import UsersData, UsersModule, make_trainer, parameters_of

from trainoff.datamodules import Diabetes, Digits
from trainoff.errors import UserError
from trainoff.modules import Classifier, Recipe, Regressor
from trainoff.modules.regularizers import CutMix, Cutout, InputNoise, Mixup

NAMES = ["mixup", "cutmix", "cutout", "input_noise"]


def images(samples=6, height=5, width=7):
    """Every value is the number of its sample."""
    return torch.arange(samples, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 2, height, width).contiguous()


@given(alpha=st.floats(0.05, 5), seed=st.integers(0, 1000))
def test_mixup_mixes_inputs_and_targets_alike(alpha, seed):
    mixup = Mixup(alpha)
    mixup._random = np.random.default_rng(seed)
    inputs, targets = torch.eye(6), torch.arange(6)
    mixed, soft = mixup.change(inputs, targets, 6)
    # Sample i is the i-th unit vector and its class is i: the mixture of inputs is the mixture of classes.
    torch.testing.assert_close(mixed, soft)
    torch.testing.assert_close(soft.sum(1), torch.ones(6))
    shares = soft.diagonal()
    assert len({round(float(share), 5) for share in shares if share < 1 - 1e-6}) <= 1  # one λ a batch
    assert torch.equal(inputs, torch.eye(6))


def test_mixups_share_has_the_beta_distribution():
    """Mean 1/2 and variance 1/(4(2α + 1))."""
    mixup = Mixup(0.4)
    mixup._random = np.random.default_rng(0)
    values = torch.tensor([[0.0], [1.0]])
    shares = [float(mixup.change(values, values, None)[0][1]) for _ in range(4000)]
    shares = [share for share in shares if share < 1]  # half of the partners are the sample itself
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
    assert np.var(shares) == pytest.approx(1 / (4 * 1.8), abs=0.01)


@given(alpha=st.floats(0.1, 5), seed=st.integers(0, 1000))
def test_cutmixs_targets_are_the_areas(alpha, seed):
    cutmix = CutMix(alpha)
    cutmix._random = np.random.default_rng(seed)
    inputs, targets = images(), torch.arange(6)
    mixed, soft = cutmix.change(inputs, targets, 6)
    for sample in range(6):
        counted = torch.bincount(mixed[sample, 0].flatten().long(), minlength=6) / 35
        torch.testing.assert_close(soft[sample], counted)
        assert torch.equal(mixed[sample, 0], mixed[sample, 1])  # the same box in each channel
        rows, columns = torch.where(mixed[sample, 0] != sample)
        if len(rows):  # a box, without holes
            assert len(rows) == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
    assert torch.equal(inputs, images())


def test_cutmix_and_cutout_take_sequences_too():
    cutmix, cutout = CutMix(), Cutout(0.4)
    for shape in ((4, 10), (4, 3, 10)):
        inputs = torch.arange(4.0).view(-1, *[1] * (len(shape) - 1)).expand(shape)
        mixed, soft = cutmix.change(inputs, torch.arange(4), 4)
        assert mixed.shape == shape
        torch.testing.assert_close(mixed.flatten(1).mean(1), soft @ torch.arange(4.0))
        blank, _ = cutout.change(torch.ones(shape), torch.arange(4), 4)
        assert ((blank == 0).float().flatten(1).mean(1) <= 0.4 + 1e-6).all()


@given(size=st.floats(0.05, 0.95), seed=st.integers(0, 1000))
def test_cutout_blanks_one_box_of_each_sample(size, seed):
    cutout = Cutout(size)
    cutout._random = np.random.default_rng(seed)
    blank, targets = cutout.change(torch.ones(8, 2, 9, 12), torch.arange(8), 10)
    assert torch.equal(targets, torch.arange(8))
    for sample in blank:
        assert torch.equal(sample[0], sample[1])
        rows, columns = torch.where(sample[0] == 0)
        height, width = rows.max() - rows.min() + 1, columns.max() - columns.min() + 1
        assert len(rows) == height * width
        assert height <= max(1, round(9 * size))
        assert width <= max(1, round(12 * size))


def test_input_noise_has_its_deviation():
    noise = InputNoise(0.3)
    inputs = torch.zeros(200, 50)
    noisy, _ = noise.change(inputs, torch.zeros(200), None)
    assert float(noisy.std()) == pytest.approx(0.3, rel=0.02)
    assert float(noisy.mean()) == pytest.approx(0, abs=0.02)
    assert not inputs.any()


# --- in a Trainer ---------------------------------------------------------------------------------------------------


class Watching(UsersModule):
    """Notes what training and validation are given."""

    def __init__(self) -> None:
        super().__init__()
        self.trained: list[torch.Tensor] = []
        self.validated: list[torch.Tensor] = []

    def training_step(self, batch):  # without batch_idx, as Lightning allows
        self.trained.append(batch[0].clone())
        return super().training_step(batch, 0)

    def validation_step(self, batch, batch_idx):
        self.validated.append(batch[0].clone())
        return super().validation_step(batch, batch_idx)


def fit_one(regularizers, data=None, epochs=1, optimizer="sgd", **arguments):
    L.seed_everything(3, verbose=False)
    module = Recipe(optimizer, regularizers=regularizers).apply(Watching())
    make_trainer(max_epochs=epochs, **arguments).fit(module, datamodule=data or UsersData())
    return module


@pytest.mark.parametrize("name", NAMES)
def test_training_sees_it_and_nothing_else_does(name):
    data = UsersData()
    before = data.train_set.tensors[0].clone()
    choice = {"name": name, "num_classes": 3} if name in ("mixup", "cutmix") else name
    plain, changed = fit_one([]), fit_one([choice], data)
    assert torch.equal(data.train_set.tensors[0], before)
    assert len(changed.trained) == len(plain.trained) == 6
    assert not all(torch.equal(*pair) for pair in zip(plain.trained, changed.trained, strict=True))
    assert all(torch.equal(*pair) for pair in zip(plain.validated, changed.validated, strict=True))
    assert "training_step" not in vars(changed)
    assert "changed_batch" not in vars(changed)


@pytest.mark.parametrize("name", NAMES)
def test_the_data_set_of_sliced_batches_stays_as_it_is(name):
    data = Digits(batch_size="full")
    before = data.digest()
    module = Classifier({"name": "mlp", "hidden": [8]}, recipe=Recipe(regularizers=[name]))
    make_trainer(max_epochs=2).fit(module, datamodule=data)
    assert data.digest() == before


def test_several_follow_one_another():
    both = fit_one([{"name": "cutout", "size": 0.6}, {"name": "input_noise", "sigma": 1e-3}])
    inputs = torch.cat(both.trained)
    blanked = inputs.abs() < 0.01
    assert 0.2 < blanked.float().mean() < 0.6  # the cutout is there
    assert (inputs[blanked] != 0).float().mean() > 0.9  # and the noise upon it


def test_sam_evaluates_one_and_the_same_batch_twice():
    module = fit_one([{"name": "input_noise", "sigma": 1.0}], optimizer={"name": "sam", "base_optimizer": "sgd"})
    assert len(module.trained) == 12
    assert all(
        torch.equal(first, second) for first, second in zip(module.trained[::2], module.trained[1::2], strict=True)
    )


def test_what_else_is_drawn_does_not_change_the_augmentation():
    plain = fit_one([{"name": "input_noise", "sigma": 1.0}])

    class Drawing(L.Callback):
        def on_train_batch_start(self, *args):
            torch.rand(5)

    drawing = fit_one([{"name": "input_noise", "sigma": 1.0}], callbacks=[Drawing()])
    assert all(torch.equal(*pair) for pair in zip(plain.trained, drawing.trained, strict=True))
    twice = fit_one([{"name": "input_noise", "sigma": 1.0}], epochs=2)
    assert not torch.allclose(twice.trained[0] - twice.trained[0].mean(), twice.trained[6] - twice.trained[6].mean())


def test_it_works_as_a_callback_of_anyones_trainer():
    module = Watching()
    L.seed_everything(3, verbose=False)
    make_trainer(callbacks=[InputNoise(1.0)]).fit(module, datamodule=UsersData())
    recipe = fit_one([{"name": "input_noise", "sigma": 1.0}])
    assert module.trained[0].shape == recipe.trained[0].shape
    assert "training_step" not in vars(module)


def test_a_regressions_targets_are_mixed_as_they_are():
    module = Regressor({"name": "mlp", "hidden": [8]}, recipe=Recipe(regularizers=["mixup"]))
    make_trainer(max_epochs=1).fit(module, datamodule=Diabetes())
    assert torch.isfinite(parameters_of(module)).all()


def test_targets_that_cannot_be_soft_are_refused():
    class OnLogProbabilities(UsersModule):
        def __init__(self):
            super().__init__()
            self.loss = nn.NLLLoss()

    for name in ("mixup", "cutmix"):
        with pytest.raises(UserError, match=f"{name}: OnLogProbabilities has no nn.CrossEntropyLoss"):
            make_trainer().fit(Recipe(regularizers=[name]).apply(OnLogProbabilities()), datamodule=UsersData())
        with pytest.raises(UserError, match=f"{name}: the number of classes is not known; give num_classes"):
            make_trainer().fit(Recipe(regularizers=[name]).apply(UsersModule()), datamodule=UsersData())


def test_a_batch_of_another_kind_is_refused():
    class Single(UsersModule):
        def training_step(self, batch, batch_idx):
            return self.net(batch).sum()

    module = Recipe(regularizers=["input_noise"]).apply(Single())
    with pytest.raises(UserError, match="InputNoise: needs batches of"):
        make_trainer().fit(module, torch.utils.data.DataLoader(torch.randn(8, 6), batch_size=4))
    assert "training_step" not in vars(module)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"name": "mixup", "alpha": 0}, "alpha is above 0"),
        ({"name": "cutmix", "alpha": -1.0}, "alpha is above 0"),
        ({"name": "cutout", "size": 1.0}, r"in \(0, 1\), not 1.0"),
        ({"name": "input_noise", "sigma": -0.1}, "at least 0"),
    ],
)
def test_values_out_of_range_are_refused(choice, said):
    with pytest.raises(UserError, match=said):
        Recipe(regularizers=[choice]).validate()
