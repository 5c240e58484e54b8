"""Pruned weights stay at zero, whatever the optimizer, the averages and the checkpoints do."""

from __future__ import annotations

import copy
import pickle

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from pruning_runs import OPTIMIZERS, Deep, OrderedData, copy_of, pruning_of, train
from users_project import UsersData, make_trainer, parameters_of

from trainoff.errors import UserError
from trainoff.modules import Recipe
from trainoff.modules.pruning import PRUNING
from trainoff.modules.regularizers import EMA

METHODS = {
    "magnitude": {"name": "magnitude", "sparsity": 0.5, "at": 0.3},
    "structured": {"name": "magnitude", "sparsity": 0.5, "at": 0.3, "structured": True},
    "gradual": {"name": "gradual", "sparsity": 0.7, "updates": 6},
    "synflow": {"name": "synflow", "sparsity": 0.7, "rounds": 5},
    "snip": {"name": "snip", "sparsity": 0.7},
    "movement": {"name": "movement", "sparsity": 0.7, "updates": 6},
    "lottery": {"name": "lottery_ticket", "sparsity": 0.7, "rounds": 2},
    "shrinking": {"name": "progressive_shrinking"},
    "surgery": {"name": "dynamic_network_surgery", "gamma": 0.1},
}


def pruning_class(method):
    return PRUNING[METHODS[method]["name"]].load()


def check_zeros(weights, masks):
    assert masks
    assert any((~mask).any() for mask in masks.values())
    for name, mask in masks.items():
        assert not weights[name][~mask].any(), name
        assert weights[name][mask].all(), name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_zeros_stay_through_every_kind_of_optimizer(optimizer):
    pruning = {"name": "magnitude", "sparsity": 0.6, "at": 0.3}
    module, method, watch, trainer = train(pruning, optimizer=OPTIMIZERS[optimizer])
    check_zeros(copy_of(module), method.masks)
    for seen in (*watch.begun[8:], *watch.validated[2:]):
        for name, mask in method.masks.items():
            assert not seen[name][~mask].any()
    # No momentum is left that would move them, were the masks taken away.
    state = trainer.optimizers[0].state
    for name, parameter in module.named_parameters():
        for key, value in state.get(parameter, {}).items():
            alike = torch.is_tensor(value) and value.shape == parameter.shape
            if name in method.masks and alike and "hessian" not in key:  # a curvature moves nothing
                assert not value[~method.masks[name]].any(), key


REGULARIZERS = ("ema", "swa", "lookahead", "sam", "max_norm", "gradient_noise", "l2")


@pytest.mark.parametrize(
    ("method", "name"),
    [(m, r) for m in METHODS for r in REGULARIZERS if r not in pruning_class(m).refused_regularizers],
)
def test_zeros_stay_beside_every_regularizer_that_moves_weights(method, name):
    regularizer = {"name": "swa", "start": 0.25} if name == "swa" else name
    module, pruning, watch, _ = train(METHODS[method], regularizers=[regularizer])
    check_zeros(copy_of(module), pruning.masks)
    last = watch.validated[-1]
    for key, mask in pruning.masks.items():
        assert not last[key][~mask].any()


def test_lightnings_own_average_is_masked_too():
    """Its average has begun before the pruning, and comes after the recipe's callbacks have acted."""
    average = WeightAveraging()
    module, pruning, _, _ = train(METHODS["magnitude"], callbacks=[average])
    check_zeros(copy_of(module), pruning.masks)
    check_zeros(dict(average._average_model.module.named_parameters()), pruning.masks)


def test_the_average_of_what_is_left_is_the_plain_one():
    """Of the weights after each of the first 18 steps, those that the next one begins with."""
    _, pruning, watch, _ = train(METHODS["magnitude"], regularizers=[{"name": "ema", "decay": 0.8}])
    average = watch.begun[1]
    for update, weights in enumerate(watch.begun[2:19], 1):
        share = EMA(0.8).share_of_present(update)
        average = {name: average[name].lerp(weights[name], share) for name in weights}
    for name, value in average.items():
        expected = value * pruning.masks.get(name, torch.ones(()))
        torch.testing.assert_close(watch.validated[2][name], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_accumulated_gradients_prune_like_whole_batches(method):
    """Micro-batches are one step: the same masks, at the same steps."""
    whole = train(METHODS[method], batch=16)
    parts = train(METHODS[method], batch=16, microbatches=4, trainer={"accumulate_grad_batches": 4})
    for name, mask in whole[1].masks.items():
        assert torch.equal(mask, parts[1].masks[name])
    torch.testing.assert_close(parameters_of(parts[0]), parameters_of(whole[0]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("file", ["epoch=1.ckpt", "step=10.ckpt", "step=15.ckpt"])
def test_a_resumed_training_ends_as_an_uninterrupted_one(method, file, tmp_path):
    keep = [
        ModelCheckpoint(tmp_path, "{epoch}", every_n_epochs=1, save_top_k=-1),
        ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=5, save_top_k=-1),
    ]
    optimizer = {"name": "adamw", "lr": 0.01}
    straight, pruning, _, _ = train(
        METHODS[method], optimizer=optimizer, callbacks=keep, trainer={"enable_checkpointing": True}
    )
    resumed, again, _, _ = train(METHODS[method], optimizer=optimizer, seed=5, ckpt_path=tmp_path / file)
    assert torch.equal(parameters_of(resumed), parameters_of(straight))
    assert again.masks.keys() == pruning.masks.keys()
    assert all(torch.equal(again.masks[name], mask) for name, mask in pruning.masks.items())
    assert (again.pruned, again.spliced, again.is_done) == (pruning.pruned, pruning.spliced, pruning.is_done)


@pytest.mark.parametrize("method", METHODS)
def test_a_checkpoint_is_a_plain_modules_checkpoint_with_the_zeros_in_it(method, tmp_path):
    module, pruning, _, trainer = train(METHODS[method])
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    saved = torch.load(tmp_path / "end.ckpt", weights_only=True)
    plain = Deep()
    plain.load_state_dict(saved["state_dict"], strict=True)
    check_zeros(copy_of(plain), pruning.masks)
    assert torch.equal(parameters_of(plain), parameters_of(module))


@pytest.mark.parametrize("method", METHODS)
def test_copies_and_pickles_keep_the_masks(method):
    module, pruning, _, _ = train(METHODS[method])
    for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        theirs = pruning_of(copied).masks
        assert all(torch.equal(theirs[name], mask) for name, mask in pruning.masks.items())
        check_zeros(copy_of(copied), theirs)
    assert pruning_of(pickle.loads(pickle.dumps(Recipe(pruning=METHODS[method]).apply(Deep())))).masks == {}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("hook", ["on_before_zero_grad", "on_before_optimizer_step", "on_train_batch_end"])
def test_an_interrupted_step_leaves_the_zeros(method, hook):
    """The Trainer's own callbacks come first: the interruption is between the recipe's hooks too."""

    class Interruption(L.Callback):
        pass

    def interrupt(self, trainer, *_):
        if trainer.global_step + (hook != "on_train_batch_end") == 20:
            raise RuntimeError("no more")

    setattr(Interruption, hook, interrupt)
    L.seed_everything(2, verbose=False)
    module = Recipe("sgd", pruning=METHODS[method]).apply(Deep())
    with pytest.raises(RuntimeError, match="no more"):
        make_trainer(max_epochs=4, callbacks=[Interruption()]).fit(module, datamodule=OrderedData())
    check_zeros(copy_of(module), pruning_of(module).masks)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps", [1, 3])
def test_it_is_tried_in_a_step_or_three(method, steps):
    module = Recipe("sgd", pruning=METHODS[method]).apply(Deep())
    make_trainer(fast_dev_run=steps).fit(module, datamodule=OrderedData())


def test_another_fit_begins_without_masks():
    module, pruning, _, _ = train(METHODS["magnitude"])
    first = {name: mask.clone() for name, mask in pruning.masks.items()}
    again = train(METHODS["magnitude"], module=module)[1]
    assert again.pruned == sum(int((~mask).sum()) for mask in again.masks.values())
    assert first.keys() == again.masks.keys()


def test_it_is_inert_for_another_module():
    _, pruning, _, trainer = train(METHODS["magnitude"])
    masks = {name: mask.clone() for name, mask in pruning.masks.items()}
    other = Deep()
    trainer.fit_loop.max_epochs = 6
    trainer.fit(other, datamodule=OrderedData())
    assert all(weight.all() for name, weight in copy_of(other).items() if "weight" in name)
    assert all(torch.equal(masks[name], mask) for name, mask in pruning.masks.items())


def test_a_sharding_trainer_is_refused(monkeypatch):
    from trainoff.modules.pruning import base

    trainer = make_trainer()
    monkeypatch.setattr(base, "SHARDED", (type(trainer.strategy),))
    module = Recipe("sgd", pruning="magnitude").apply(Deep())
    with pytest.raises(UserError, match="pruning: SingleDeviceStrategy shards the parameters"):
        trainer.fit(module, datamodule=UsersData())


def train_on(devices, method):
    L.seed_everything(4, verbose=False)
    recipe = Recipe({"name": "sgd", "lr": 0.3, "momentum": 0.9}, batch=32, pruning=METHODS[method])
    module = recipe.apply(EqualOnAllRanks())
    make_trainer(max_epochs=3, devices=devices, strategy="ddp_spawn").fit(module, datamodule=UsersData())
    assert any((weight == 0).any() for weight in module.parameters())
    return parameters_of(module)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_two_processes_have_equal_masks_and_weights(method):
    train_on(2, method)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["snip", "surgery"])
def test_they_are_those_of_one_process(method):
    one, two = train_on(1, method), train_on(2, method)
    assert torch.equal(one == 0, two == 0)
    torch.testing.assert_close(two, one, rtol=0, atol=1e-5)


class EqualOnAllRanks(Deep):
    """Fails where the processes' weights or zeros differ."""

    def on_train_end(self):
        mine = torch.cat([parameter.detach().flatten() for parameter in self.parameters()])
        others = self.all_gather(mine).view(-1, mine.numel())
        assert (others == mine).all()
