"""Distillation: its loss by torch's kl_div, and a teacher that stays as it is and out of the way."""

from __future__ import annotations

import copy

import lightning as L
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from users_project import UsersData, UsersModule, make_trainer, parameters_of

from trainoff.datamodules import Diabetes, Digits
from trainoff.errors import UserError
from trainoff.modules import Classifier, Recipe, Regressor
from trainoff.modules.regularizers import Distillation
from trainoff.modules.regularizers.distillation import softened_divergences


@given(temperature=st.floats(0.5, 20), samples=st.integers(1, 6), classes=st.integers(2, 5), seed=st.integers(0, 999))
@settings(deadline=None)
def test_the_loss_is_torchs_divergence_times_the_squared_temperature(temperature, samples, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, samples, classes, generator=generator, dtype=torch.float64)
    soft = (teacher / temperature).softmax(1)
    expected = temperature**2 * F.kl_div((student / temperature).log_softmax(1), soft, reduction="batchmean")
    torch.testing.assert_close(
        softened_divergences(student, teacher, temperature).mean(), expected, rtol=1e-9, atol=1e-12
    )


@pytest.fixture
def teacher(tmp_path):
    """A classifier's checkpoint, with dropout and batch norm: in training mode it would give other outputs."""
    L.seed_everything(11, verbose=False)
    net = {"name": "mlp", "hidden": [12], "norm": "batch", "dropout": 0.5}
    module = Classifier(net, Recipe({"name": "sgd", "lr": 0.1}, batch=32), input_shape=(6,), output_size=3)
    trainer = make_trainer(max_epochs=3)
    trainer.fit(module, datamodule=UsersData())
    trainer.save_checkpoint(tmp_path / "teacher.ckpt")
    return module.eval(), str(tmp_path / "teacher.ckpt")


@pytest.mark.parametrize("microbatches", [1, 3])
def test_a_step_is_a_step_on_the_mixed_loss(teacher, microbatches):
    module, (master, path) = UsersModule(), teacher
    inputs, targets = UsersData().train_set.tensors
    outputs = module.net(inputs)
    soft = (master(inputs) / 3).softmax(1).detach()
    divergence = F.kl_div((outputs / 3).log_softmax(1), soft, reduction="batchmean")
    loss = 0.3 * F.cross_entropy(outputs, targets) + 0.7 * 9 * divergence
    gradients = torch.autograd.grad(loss, list(module.parameters()))
    expected = torch.cat([(p - 0.5 * g).flatten() for p, g in zip(module.parameters(), gradients, strict=True)])
    choice = {"name": "distillation", "teacher": path, "alpha": 0.7, "temperature": 3.0}
    recipe = Recipe({"name": "sgd", "lr": 0.5}, regularizers=[choice], batch=96, microbatches=microbatches)
    make_trainer(**recipe.trainer_arguments()).fit(recipe.apply(module), datamodule=UsersData())
    torch.testing.assert_close(parameters_of(module), expected.detach().double(), rtol=0, atol=1e-6)


def test_the_teacher_is_frozen_and_in_nothing_that_is_kept(teacher, tmp_path):
    _, path = teacher
    choice = {"name": "distillation", "teacher": path}
    student = Recipe({"name": "adamw"}, regularizers=[choice]).apply(UsersModule())
    names = set(UsersModule().state_dict())
    (distillation,) = [c for c in student.recipe_callbacks if isinstance(c, Distillation)]
    seen = []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            loaded = distillation._teacher
            seen.append((parameters_of(loaded), torch.cat([b.flatten().double() for b in loaded.buffers()])))
            assert not any(part.training for part in loaded.modules())
            assert not any(parameter.requires_grad for parameter in loaded.parameters())
            held = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
            assert held == {id(p) for p in pl_module.parameters()}

    trainer = make_trainer(max_epochs=2, callbacks=[Watch()])
    trainer.fit(student, datamodule=UsersData())
    assert len(seen) == 12
    assert all(torch.equal(first, later) for state in seen for first, later in zip(seen[0], state, strict=True))
    trainer.save_checkpoint(tmp_path / "student.ckpt")
    saved = torch.load(tmp_path / "student.ckpt", weights_only=True)
    assert set(saved["state_dict"]) == names
    assert not any("Distillation" in key for key in saved["callbacks"])
    assert distillation._teacher is None
    assert not student.loss._forward_hooks


def test_the_teacher_sees_what_augmentation_made_of_the_batch(teacher):
    _, path = teacher
    distillation = {"name": "distillation", "teacher": path}
    module = UsersModule()
    recipe = Recipe("sgd", regularizers=[distillation, {"name": "mixup", "num_classes": 3}])
    seen = []

    class Watch(UsersModule):
        def training_step(self, batch, batch_idx):
            (callback,) = [c for c in self.recipe_callbacks if isinstance(c, Distillation)]
            seen.append(torch.equal(callback._inputs[0], batch[0]))
            return super().training_step(batch, batch_idx)

    module = Watch()
    make_trainer().fit(recipe.apply(module), datamodule=UsersData())
    assert seen == [True] * 6


def test_validation_and_the_random_state_know_nothing_of_it(teacher):
    _, path = teacher
    ended = []
    for regularizers in ([], [{"name": "distillation", "teacher": path}]):
        L.seed_everything(0, verbose=False)
        module = Recipe({"name": "sgd", "lr": 0.0}, regularizers=regularizers).apply(UsersModule())
        trainer = make_trainer()
        trainer.fit(module, datamodule=UsersData())
        ended.append((float(trainer.callback_metrics["val_loss"]), torch.rand(1)))
    assert ended[0] == ended[1]


def test_a_student_without_labels_learns_what_its_teacher_knows(tmp_path):
    """α = 1: on labels that are noise, the teacher's outputs alone."""
    recipe = Recipe({"name": "sgd", "lr": 0.1}, batch=64)
    L.seed_everything(0, verbose=False)
    master = Classifier({"name": "mlp", "hidden": [64]}, recipe)
    trainer = make_trainer(max_epochs=8)
    trainer.fit(master, datamodule=Digits())
    trainer.save_checkpoint(tmp_path / "teacher.ckpt")
    accuracies = []
    for choice in ([], [{"name": "distillation", "teacher": str(tmp_path / "teacher.ckpt"), "alpha": 1.0}]):
        student = Classifier({"name": "mlp", "hidden": [16]}, Recipe(recipe.optimizer, regularizers=choice, batch=64))
        trainer = make_trainer(max_epochs=8)
        trainer.fit(student, datamodule=Digits(label_noise=0.9))
        accuracies.append(float(trainer.callback_metrics["val/accuracy"]))
    assert accuracies[0] < 0.3
    assert accuracies[1] > 0.85


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": 1.5}, r"lies in \[0, 1\], not 1.5"),
        ({"temperature": 0.0}, "temperature is above 0"),
    ],
)
def test_values_out_of_range_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        Recipe(regularizers=[{"name": "distillation", "teacher": "some.ckpt", **changes}]).validate()
    with pytest.raises(UserError, match="teacher"):
        Recipe(regularizers=["distillation"]).validate()


def test_teachers_that_do_not_serve_are_refused(tmp_path, teacher):
    def fit(path, student=None, data=None, **more):
        recipe = Recipe("sgd", regularizers=[{"name": "distillation", "teacher": str(path), **more}])
        with pytest.raises(UserError) as caught:
            make_trainer().fit(recipe.apply(student or UsersModule()), datamodule=data or UsersData())
        assert "\n" not in str(caught.value)
        return str(caught.value)

    _, path = teacher
    assert "distillation.teacher: there is no file" in fit(tmp_path / "nothing.ckpt")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    assert "is no checkpoint of classifier" in fit(tmp_path / "text.ckpt")
    assert "did you mean classifier" in fit(path, module="clasifier")
    wide = UsersModule()
    wide.net = nn.Linear(6, 5)
    assert "the student's outputs are (16, 5), the teacher's (16, 3)" in fit(path, wide)
    assert "Regressor has no nn.CrossEntropyLoss" in fit(path, Regressor("linear"), Diabetes())
    trainer = make_trainer()
    trainer.fit(UsersModule(), datamodule=UsersData())
    trainer.save_checkpoint(tmp_path / "users.ckpt")
    assert "UsersModule has no forward" in fit(tmp_path / "users.ckpt", module="users_project.UsersModule")
    instance = Classifier(nn.Linear(6, 3), Recipe("sgd"))
    trainer = make_trainer()
    trainer.fit(copy.deepcopy(instance), datamodule=UsersData())
    trainer.save_checkpoint(tmp_path / "instance.ckpt")
    assert "its net was given as an instance" in fit(tmp_path / "instance.ckpt")
