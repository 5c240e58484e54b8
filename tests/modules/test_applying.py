"""A recipe on anyone's LightningModule: what it replaces, keeps and refuses, also after a pickle or a spawn."""

from __future__ import annotations

import copy
import functools
import multiprocessing
import pickle

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import nn
from torch.utils.data import DataLoader, IterableDataset
from users_project import UsersData, UsersModule, make_trainer, train_and_tell

from trainoff.datamodules import Wine
from trainoff.errors import UserError
from trainoff.modules import Classifier, Recipe
from trainoff.modules.nets.layers import norm_layer
from trainoff.modules.regularizers import L2

SYNCED = {"name": "ddp", "sync_batchnorm": True}


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


@pytest.mark.parametrize("kind", ["foreign", "ours"])
def test_a_second_recipe_undoes_what_the_first_did_to_the_net(kind):
    """Dropout rates and frozen parameters; what the user froze stays."""
    rates = []

    class Watch(UsersModule if kind == "foreign" else Classifier):
        def training_step(self, batch, batch_idx):
            rates.append(self.net[1].p)
            return super().training_step(batch, batch_idx)

    net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Dropout(0.1), torch.nn.Linear(8, 3))
    net[0].bias.requires_grad_(False)
    module = Watch() if kind == "foreign" else Watch(net)
    module.net = net
    first = Recipe(
        {"name": "sgd", "lr": 0.3},
        regularizers=[{"name": "dropout", "p": 0.4}],
        parameters=[{"match": "net.0.*", "freeze": True}],
    )
    for recipe, rate, still in (
        (first, 0.4, {"0.weight", "0.bias"}),
        (Recipe({"name": "sgd", "lr": 0.3}), 0.1, {"0.bias"}),
    ):
        recipe.apply(module)
        before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
        rates.clear()
        make_trainer().fit(module, datamodule=UsersData())
        assert set(rates) == {rate}
        assert {name for name, parameter in net.named_parameters() if torch.equal(parameter, before[name])} == still


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


def own_callbacks(calls):
    calls.append("called")
    return OwnCallback()


def test_own_callbacks_put_on_the_instance_are_kept():
    """Also when a recipe is applied twice, and in place of the class's, which the user has replaced."""
    module, calls = WithCallbacks(), []
    module.configure_callbacks = functools.partial(own_callbacks, calls)
    for regularizer, expected in (("l1", ["OwnCallback", "L1"]), ("l2", ["OwnCallback", "L2"])):
        Recipe("sgd", regularizers=[regularizer]).apply(module)
        calls.clear()
        trainer = make_trainer()
        trainer.fit(module, datamodule=UsersData())
        kinds = [type(callback).__name__ for callback in trainer.callbacks]
        assert [kind for kind in kinds if kind in ("OwnCallback", "L1", "L2")] == expected
        assert calls == ["called"]


def own_net(module):
    if module.net is None:
        module.net = torch.nn.Linear(6, 3)


class OtherNet(UsersModule):
    def configure_model(self):
        raise AssertionError("the user has replaced it")


@pytest.mark.parametrize("make", [UsersModule, OtherNet])
def test_a_configure_model_put_on_the_instance_is_kept(make):
    """Also when a recipe is applied twice; what the recipe does to the net comes after it."""
    module = make()
    module.net = None
    module.configure_model = functools.partial(own_net, module)
    for _ in range(2):
        recipe = Recipe("sgd", initialisation="kaiming", parameters=[{"match": "net.bias", "freeze": True}])
        recipe.apply(module)
    make_trainer().fit(module, datamodule=UsersData())
    assert torch.equal(module.net.bias, torch.zeros(3))


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


@pytest.fixture
def no_group_left():
    """Lightning leaves the group of processes that a fit under ddp began, and later tests would be in it."""
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("recipe", "arguments", "part"),
    [
        (Recipe(precision="bf16-mixed"), {}, "bf16-mixed, the Trainer's 32-true"),
        (Recipe(precision="16-mixed"), {"precision": "16-mixed"}, "needs an accelerator"),
        (Recipe(microbatches=2), {}, "the Trainer accumulates 1"),
        (Recipe(batch=32), {"accumulate_grad_batches": 2}, "the recipe's are 1, the Trainer accumulates 2"),
        (Recipe(microbatches=3), {"accumulate_grad_batches": 2}, "the recipe's are 3, the Trainer accumulates 2"),
        (Recipe(batch=32, microbatches=4), {"accumulate_grad_batches": 2}, "the recipe's are 4, the Trainer accum"),
        (Recipe(strategy="ddp"), {}, "the recipe's is ddp"),
        (Recipe(strategy={"name": "auto", "devices": 2}), {}, "the recipe's are 2"),
        (Recipe(strategy=SYNCED), {"strategy": "ddp"}, "sync_batchnorm: the recipe has it, the Trainer has not"),
        (Recipe(strategy=SYNCED), {"strategy": "ddp", "sync_batchnorm": True}, "runs on accelerators only"),
        (Recipe("lbfgs", microbatches=2), {"accumulate_grad_batches": 2}, "cannot accumulate"),
        (Recipe(regularizers=["gradient_clip"]), {"gradient_clip_val": 1.0}, "gradient_clip_val as well"),
    ],
)
def test_a_trainer_that_contradicts_the_recipe_stops_at_the_start(recipe, arguments, part, no_group_left):
    module = recipe.apply(UsersModule())
    with pytest.raises(UserError, match=part) as caught:
        make_trainer(**arguments).fit(module, datamodule=UsersData())
    assert "\n" not in str(caught.value)
    assert module.trainer.global_step == 0


def test_synchronised_batch_norm_reaches_the_trainer_and_takes_every_batch_norms_place():
    """The conversion; torch's SyncBatchNorm itself needs an accelerator (see test_two_processes.py)."""
    recipe = Recipe(strategy={**SYNCED, "devices": 1})
    assert recipe.trainer_arguments() == {"devices": 1, "sync_batchnorm": True, "strategy": "ddp"}
    trainer = make_trainer(**recipe.trainer_arguments())
    norms = [norm_layer(name, 4, 2) for name in ("batch", "ghost_batch", "layer")]
    converted = trainer.strategy._layer_sync.apply(nn.Sequential(*norms))
    kinds = [nn.SyncBatchNorm, nn.SyncBatchNorm, nn.GroupNorm]
    assert [type(layer) for layer in converted] == kinds
    for before, after in zip(norms, converted, strict=True):
        assert after.weight is before.weight


class Unshuffled(UsersData):
    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size)


@pytest.mark.parametrize(
    ("fields", "samples"), [({"batch": 32, "microbatches": 2}, 32), ({}, 16)], ids=["the recipe's", "the user's"]
)
def test_a_trainer_that_accumulates_as_the_recipe_says_takes_the_whole_batch_in_a_step(fields, samples, flat):
    """Against gradient descent in a plain loop. A recipe that says neither leaves both to the user: 2 · 8 samples."""
    module, plain, data = UsersModule(), UsersModule(), Unshuffled(batch_size=8)
    plain.load_state_dict(module.state_dict())
    Recipe({"name": "sgd", "lr": 0.3}, **fields).apply(module)
    make_trainer(accumulate_grad_batches=2).fit(module, datamodule=data)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.3)
    for inputs, targets in zip(*(tensor.split(samples) for tensor in data.train_set.tensors), strict=True):
        optimizer.zero_grad()
        plain.loss(plain.net(inputs), targets).backward()
        optimizer.step()
    torch.testing.assert_close(flat(module), flat(plain), rtol=0, atol=1e-6)


def test_parts_of_a_batch_that_the_recipe_does_not_say_are_refused_for_a_foreign_datamodule():
    """It would go on giving batches of its own size, and a step would take several of them."""
    recipe = Recipe("sgd", microbatches=2)
    with pytest.raises(UserError, match="microbatches: UsersData cannot split its own batches; say batch too"):
        make_trainer(**recipe.trainer_arguments()).fit(recipe.apply(UsersModule()), datamodule=UsersData())


def test_batch_reaches_the_datamodule():
    data = UsersData(batch_size=16, samples=96)
    trainer = make_trainer()
    trainer.fit(Recipe("sgd", batch=24).apply(UsersModule()), datamodule=data)
    assert (data.batch_size, trainer.global_step) == (24, 4)


def test_batch_full_is_the_whole_training_set():
    trainer = make_trainer()
    trainer.fit(Recipe("sgd", batch="full").apply(UsersModule()), datamodule=UsersData(samples=96))
    assert trainer.global_step == 1


@pytest.mark.parametrize(("make", "samples"), [(UsersData, 96), (Wine, 106)])
def test_a_batch_larger_than_the_training_data_is_refused_and_one_as_large_is_taken(make, samples):
    data = make()
    data.setup("fit")
    width = next(iter(data.train_dataloader()))[0].shape[1]
    for batch in (samples, samples + 1):
        module = Classifier(torch.nn.Linear(width, 3), Recipe("sgd", batch=batch))
        trainer = make_trainer()
        if batch == samples:
            trainer.fit(module, datamodule=make())
            assert trainer.global_step == 1
            continue
        with pytest.raises(UserError, match=f"batch: a batch of {batch} samples; the training split has {samples}"):
            trainer.fit(module, datamodule=make())


class Stream(IterableDataset):
    """Samples without a number."""

    def __iter__(self):
        return iter(UsersData().train_set)


class Streaming(UsersData):
    def train_dataloader(self):
        return DataLoader(Stream(), batch_size=self.batch_size)


def test_full_is_refused_where_the_number_of_samples_is_not_known():
    with pytest.raises(UserError, match="batch: the length of Streaming's training set is not known"):
        make_trainer().fit(Recipe("sgd", batch="full").apply(UsersModule()), datamodule=Streaming())
    trainer = make_trainer()
    trainer.fit(Recipe("sgd", batch=24).apply(UsersModule()), datamodule=Streaming())
    assert trainer.global_step == 4


class OwnLoader(UsersModule):
    """Makes its own batches, of the `batch_size` that it has itself."""

    def __init__(self):
        super().__init__()
        self.batch_size = 16
        self.train_set = UsersData().train_set

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size)


class OwnSetup(OwnLoader):
    """Has its samples only after its own `setup`, which comes after the callbacks'."""

    def __init__(self):
        super().__init__()
        del self.train_set

    def setup(self, stage):
        self.train_set = UsersData().train_set


@pytest.mark.parametrize("make", [OwnLoader, OwnSetup])
def test_a_module_that_makes_its_own_batches_gets_the_recipes(make):
    module, trainer = Recipe("sgd", batch=24).apply(make()), make_trainer()
    trainer.fit(module)
    assert (module.batch_size, trainer.global_step) == (24, 4)
    trainer = make_trainer()
    with pytest.raises(UserError, match="a batch of 97 samples; the training split has 96"):
        trainer.fit(Recipe("sgd", batch=97).apply(make()))
    assert trainer.global_step == 0


def test_full_with_a_module_that_makes_its_own_batches():
    trainer = make_trainer()
    trainer.fit(Recipe("sgd", batch="full").apply(OwnLoader()))
    assert trainer.global_step == 1
    with pytest.raises(UserError, match="batch: the length of OwnSetup's training set is not known"):
        make_trainer().fit(Recipe("sgd", batch="full").apply(OwnSetup()))


class Sizeless(UsersData):
    def __init__(self):
        super().__init__()
        del self.batch_size

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=16)


@pytest.mark.parametrize("batch", [24, "full"])
def test_a_batch_size_on_the_module_alone_does_not_stand_for_the_datamodules(batch):
    """Set there it would change nothing, without a word."""
    module = UsersModule()
    module.batch_size = 16
    with pytest.raises(UserError, match=f"batch: the recipe asks for {batch}, but Sizeless has no batch_size"):
        make_trainer().fit(Recipe("sgd", batch=batch).apply(module), datamodule=Sizeless())


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
