"""Checkpoints reload without arguments, with ``weights_only=True``, and resume to the same parameters."""

from __future__ import annotations

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn
from users_project import UsersData, UsersModule, make_trainer

from trainoff.datamodules import Diabetes, Digits
from trainoff.errors import UserError
from trainoff.modules import Classifier, Recipe, Regressor

RECIPE = Recipe(
    {"name": "adamw", "lr": 3e-3},
    {"name": "cosine", "warmup": 0.2},
    ["l2", {"name": "dropout", "p": 0.2}, "label_smoothing", "gradient_clip"],
    batch=64,
    initialisation="kaiming",
)


def _fit(module, data, epochs=1, **arguments):
    trainer = make_trainer(max_epochs=epochs)
    trainer.fit(module, datamodule=data, **arguments)
    return trainer


def test_a_named_net_reloads_alone(tmp_path):
    module = Classifier({"name": "mlp", "hidden": [32]}, recipe=RECIPE)
    _fit(module, Digits()).save_checkpoint(tmp_path / "a.ckpt")
    reloaded = Classifier.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    inputs = torch.randn(5, 1, 8, 8)
    torch.testing.assert_close(reloaded.eval()(inputs), module.eval()(inputs))
    assert Recipe.of(reloaded.recipe) == RECIPE
    assert dict(reloaded.hparams) == dict(module.hparams)


def test_a_checkpoint_holds_plain_data_only(tmp_path):
    _fit(Classifier({"name": "mlp", "hidden": [8]}, recipe=RECIPE), Digits()).save_checkpoint(tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert content["hyper_parameters"]["recipe"] == RECIPE.to_dict()


@pytest.mark.parametrize("kind", ["ours", "foreign"])
def test_numpys_numbers_in_a_recipe_are_no_hindrance(kind, tmp_path):
    """`np.logspace` gives the rates of a sweep; in a checkpoint they would not load with `weights_only=True`."""
    recipe = Recipe(
        {"name": "sgd", "lr": np.logspace(-3, -1, 3)[1], "momentum": np.float64(0.5)},
        {"name": "step", "every": np.int64(2), "warmup": np.int64(1)},
        [{"name": "l2", "coefficient": np.float64(1e-3)}],
        batch=np.int64(32),
        microbatches=np.int64(2),
        parameters=[{"match": "*bias", "lr_scale": np.float64(0.5), "weight_decay": np.float64(0.25)}],
    )
    module = Classifier(nn.Linear(6, 3), recipe) if kind == "ours" else recipe.apply(UsersModule())
    trainer = make_trainer(max_epochs=2, **recipe.trainer_arguments())
    trainer.fit(module, datamodule=UsersData())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert content["optimizer_states"][0]["param_groups"][0]["momentum"] == 0.5
    if kind == "ours":
        assert Recipe(**content["hyper_parameters"]["recipe"]) == recipe


def test_a_net_given_as_an_instance_must_be_given_again(tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

        def forward(self, inputs):
            return self.layers(inputs)

    module = Classifier(Net(), recipe="sgd")
    _fit(module, Digits()).save_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(UserError, match=r"load_from_checkpoint\(path, net=MyNet\(\)\)"):
        Classifier.load_from_checkpoint(tmp_path / "a.ckpt")
    reloaded = Classifier.load_from_checkpoint(tmp_path / "a.ckpt", net=Net())
    inputs = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(reloaded(inputs), module(inputs))


def test_a_regressor_reloads_too(tmp_path):
    module = Regressor({"name": "mlp", "hidden": [8]}, recipe="adam")
    trainer = _fit(module, Diabetes())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    reloaded = Regressor.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    inputs = torch.randn(4, 10)
    torch.testing.assert_close(reloaded.eval()(inputs), module.eval()(inputs))
    assert {"val/mse", "val/mae", "val/r2", "val/loss"} <= set(trainer.callback_metrics)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop", "adagrad", "nadam", "lion"])
def test_a_resumed_training_ends_at_the_same_parameters(optimizer, tmp_path, flat):
    def make():
        L.seed_everything(11, verbose=False)
        recipe = Recipe({"name": optimizer, "lr": 1e-3}, {"name": "cosine", "warmup": 4}, ["l2"], batch=128)
        return Classifier({"name": "mlp", "hidden": [16]}, recipe=recipe)

    class StopAfterTwo(L.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            trainer.should_stop = trainer.current_epoch == 1

    whole = make()
    _fit(whole, Digits(), epochs=4)
    first = make()
    trainer = make_trainer(max_epochs=4, callbacks=[StopAfterTwo()])
    trainer.fit(first, datamodule=Digits())
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    second = make()
    _fit(second, Digits(), epochs=4, ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    assert torch.equal(flat(whole), flat(second))
