"""A recipe on anyone's LightningModule: what it replaces, keeps and refuses, also after a pickle or a spawn."""

from __future__ import annotations

import copy
import multiprocessing
import pickle

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from users_project import UsersData, UsersModule, make_trainer, train_and_tell

from trainoff.errors import UserError
from trainoff.modules import Classifier, Recipe
from trainoff.modules.regularizers import L2


def test_the_optimizer_becomes_the_recipes():
    module = Recipe({"name": "adamw", "lr": 0.02}).apply(UsersModule())
    trainer = make_trainer()
    trainer.fit(module, datamodule=UsersData())
    assert type(trainer.optimizers[0]) is torch.optim.AdamW
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.02


def test_applying_again_replaces():
    module = Recipe("adamw", regularizers=["l1"]).apply(UsersModule())
    Recipe({"name": "sgd", "lr": 0.1}, regularizers=["l2"]).apply(module)
    trainer = make_trainer()
    trainer.fit(module, datamodule=UsersData())
    assert type(trainer.optimizers[0]) is torch.optim.SGD
    assert [type(c).__name__ for c in trainer.callbacks if type(c).__name__ in ("L1", "L2")] == ["L2"]


class OwnCallback(Callback):
    """A callback that the user's module brings."""


class WithCallbacks(UsersModule):
    def configure_callbacks(self):
        return [OwnCallback()]


def test_the_modules_own_callbacks_are_kept():
    module = Recipe("sgd", regularizers=["l2"]).apply(WithCallbacks())
    trainer = make_trainer()
    trainer.fit(module, datamodule=UsersData())
    kinds = [type(callback).__name__ for callback in trainer.callbacks]
    assert kinds.index("OwnCallback") < kinds.index("L2")


def test_callbacks_are_the_same_objects_at_every_call():
    """Built anew, averaged weights and other state would be gone at test."""
    module = Recipe("sgd", regularizers=["l2"]).apply(UsersModule())
    trainer = make_trainer()
    trainer.fit(module, datamodule=UsersData())
    at_fit = {id(callback) for callback in module.recipe_callbacks}
    trainer.test(module, datamodule=UsersData(), verbose=False)
    assert {id(callback) for callback in trainer.callbacks if callback in module.recipe_callbacks} == at_fit


def test_callbacks_are_inert_for_another_module(flat):
    """A Trainer that then fits another module keeps the first one's callbacks."""
    trainer = make_trainer(max_epochs=1)
    recipe = Recipe("sgd", regularizers=[{"name": "l2", "coefficient": 10.0}])
    trainer.fit(recipe.apply(UsersModule()), datamodule=UsersData())
    plain, reference = UsersModule(), UsersModule()
    reference.load_state_dict(plain.state_dict())
    trainer.fit_loop.max_epochs = 2
    trainer.fit(plain, datamodule=UsersData(batch_size=96))
    make_trainer(max_epochs=1).fit(reference, datamodule=UsersData(batch_size=96))
    assert any(isinstance(callback, L2) for callback in trainer.callbacks)
    torch.testing.assert_close(flat(plain), flat(reference), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_keep_the_recipe(make_copy):
    module = make_copy(Recipe({"name": "adamw", "lr": 0.02}, regularizers=["l2"]).apply(UsersModule()))
    trainer = make_trainer()
    trainer.fit(module, datamodule=UsersData())
    assert type(trainer.optimizers[0]) is torch.optim.AdamW
    assert any(callback.owns(module) and isinstance(callback, L2) for callback in module.recipe_callbacks)
    assert module.configure_optimizers.args[0] is module


def test_a_spawned_process_trains_by_the_recipe(flat):
    """A bound method would pickle without an error and come back as the module's own hook: plain SGD."""
    module = Recipe({"name": "adamw", "lr": 0.02}, regularizers=["l2"]).apply(UsersModule())
    twin = copy.deepcopy(module)  # the child shares the parameters' memory with this process
    here, there = multiprocessing.get_context("spawn").Pipe()
    child = multiprocessing.get_context("spawn").Process(target=train_and_tell, args=(module, there))
    child.start()
    there.close()  # so that a child that dies is an EOFError here, not a wait without end
    optimizer, callbacks, parameters = here.recv()
    child.join(30)
    L.seed_everything(3, verbose=False)
    make_trainer().fit(twin, datamodule=UsersData())
    assert optimizer == "AdamW"
    assert "L2" in callbacks
    torch.testing.assert_close(torch.tensor(parameters, dtype=torch.float64), flat(twin))


def test_a_users_callback_that_lightning_would_drop_is_an_error():
    """Lightning replaces a Trainer's callback by a model's of the same class, or of a subclass, without a word."""
    module = Recipe("sgd", regularizers=["early_stopping"]).apply(UsersModule())
    with pytest.raises(UserError, match="EarlyStopping and the recipe has early_stopping"):
        make_trainer(callbacks=[EarlyStopping("val_loss", patience=7)]).fit(module, datamodule=UsersData())


@pytest.mark.parametrize(
    ("recipe", "arguments", "part"),
    [
        (Recipe(precision="bf16-mixed"), {}, "bf16-mixed, the Trainer's 32-true"),
        (Recipe(precision="16-mixed"), {"precision": "16-mixed"}, "needs an accelerator"),
        (Recipe(microbatches=2), {}, "the Trainer accumulates 1"),
        (Recipe(strategy="ddp"), {}, "the recipe's is ddp"),
        (Recipe(strategy={"name": "auto", "devices": 2}), {}, "the recipe's are 2"),
        (Recipe("lbfgs", microbatches=2), {"accumulate_grad_batches": 2}, "cannot accumulate"),
        (Recipe(regularizers=["gradient_clip"]), {"gradient_clip_val": 1.0}, "gradient_clip_val as well"),
    ],
)
def test_a_trainer_that_contradicts_the_recipe_stops_at_the_start(recipe, arguments, part):
    with pytest.raises(UserError, match=part):
        make_trainer(**arguments).fit(recipe.apply(UsersModule()), datamodule=UsersData())


def test_batch_reaches_the_datamodule():
    data = UsersData(batch_size=16, samples=96)
    trainer = make_trainer()
    trainer.fit(Recipe("sgd", batch=24).apply(UsersModule()), datamodule=data)
    assert (data.batch_size, trainer.global_step) == (24, 4)


def test_batch_full_is_the_whole_training_set():
    trainer = make_trainer()
    trainer.fit(Recipe("sgd", batch="full").apply(UsersModule()), datamodule=UsersData(samples=96))
    assert trainer.global_step == 1


def test_a_batch_that_nobody_takes_is_said():
    data = UsersData()
    module = Recipe("sgd", batch=24).apply(UsersModule())
    with pytest.raises(UserError, match="fit was given loaders"):
        make_trainer().fit(module, data.train_dataloader(), data.val_dataloader())


def test_parts_that_do_not_divide_are_refused_for_a_foreign_datamodule():
    recipe = Recipe("sgd", batch=16, microbatches=3)
    with pytest.raises(UserError, match="16 does not divide into 3 parts"):
        make_trainer(**recipe.trainer_arguments()).fit(recipe.apply(UsersModule()), datamodule=UsersData())


class ByHand(UsersModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False


def test_manual_optimization_is_refused():
    with pytest.raises(UserError, match="optimizes by hand"):
        Recipe("sgd").apply(ByHand())


def test_on_our_own_module_apply_replaces_the_recipe():
    module = Classifier(torch.nn.Linear(6, 3), recipe="adamw")
    Recipe({"name": "sgd", "lr": 0.5}).apply(module)
    assert module.hparams["recipe"]["optimizer"] == {"name": "sgd", "lr": 0.5}
    trainer = make_trainer()
    trainer.fit(module, datamodule=UsersData())
    assert type(trainer.optimizers[0]) is torch.optim.SGD


class OwnOptimizer(Classifier):
    def configure_optimizers(self):
        return torch.optim.Adagrad(self.parameters())


def test_a_subclass_may_override_our_hooks():
    trainer = make_trainer()
    trainer.fit(OwnOptimizer(torch.nn.Linear(6, 3)), datamodule=UsersData())
    assert type(trainer.optimizers[0]) is torch.optim.Adagrad
