"""A recipe on two real gloo processes ends where one process ends on the same global batches."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from users_project import UsersData, UsersModule, make_trainer, parameters_of

from trainoff.datamodules import Digits
from trainoff.modules import Classifier, Recipe


@pytest.mark.slow
@pytest.mark.parametrize("microbatches", [1, 2])
@pytest.mark.parametrize(
    "optimizer", [{"name": "sgd", "lr": 0.1, "momentum": 0.9}, {"name": "adamw", "lr": 1e-3}], ids=["sgd", "adamw"]
)
def test_two_processes_are_one(optimizer, microbatches):
    """With l2 and clipping, ten steps; `batch` is the global batch, so each process gets half of it."""
    trained = []
    for devices in (1, 2):
        L.seed_everything(4, verbose=False)
        regularizers = [{"name": "l2", "coefficient": 1e-3}, {"name": "gradient_clip", "maximum": 0.5}]
        strategy = {"name": "ddp_spawn", "devices": 2} if devices == 2 else None
        recipe = Recipe(optimizer, "cosine", regularizers, batch=64, microbatches=microbatches, strategy=strategy)
        module = Classifier({"name": "mlp", "hidden": [16]}, recipe, input_shape=(1, 8, 8), output_size=10)
        arguments = {"devices": 1, **recipe.trainer_arguments()}
        make_trainer(max_epochs=1, max_steps=10, **arguments).fit(module, datamodule=Digits())
        trained.append(parameters_of(module))
    torch.testing.assert_close(*trained, rtol=0, atol=1e-6)


PENALTIES = [
    {"name": "l1", "coefficient": 1e-3},
    {"name": "lp", "coefficient": 1e-3, "p": 3},
    {"name": "elastic_net", "coefficient": 1e-3},
    {"name": "orthogonal", "coefficient": 1e-3},
    {"name": "spectral_norm", "coefficient": 1e-3},
    {"name": "gradient_clip", "maximum": 0.5},
]
ON_THE_LOSS = [
    {"name": "gradient_penalty", "coefficient": 0.5},
    {"name": "distillation", "teacher": "teacher.ckpt"},
    {"name": "confidence_penalty", "coefficient": 0.2},
    {"name": "label_smoothing", "epsilon": 0.1},
    {"name": "ewc", "coefficient": 2.0, "samples": 20, "checkpoint": "teacher.ckpt"},
]


@pytest.mark.slow
@pytest.mark.parametrize("regularizers", [PENALTIES, ON_THE_LOSS], ids=["penalties", "on the loss"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_regularizers_on_two_processes_are_those_on_one(regularizers, precision, tmp_path, monkeypatch):
    """Each process' part of a batch is that of a micro-batch on one, so that bfloat16 rounds alike."""
    monkeypatch.chdir(tmp_path)
    net, sizes = {"name": "mlp", "hidden": [16]}, {"input_shape": (1, 8, 8), "output_size": 10}
    L.seed_everything(1, verbose=False)
    teacher = Classifier(net, Recipe("adamw", regularizers=[{"name": "ewc", "samples": 100}]), **sizes)
    trainer = make_trainer(max_epochs=1)
    trainer.fit(teacher, datamodule=Digits())
    trainer.save_checkpoint("teacher.ckpt")
    trained = []
    for devices in (1, 2):
        L.seed_everything(4, verbose=False)
        parts = {"microbatches": 2} if devices == 1 else {"strategy": {"name": "ddp_spawn", "devices": 2}}
        optimizer = {"name": "sgd", "lr": 0.1, "momentum": 0.9}
        recipe = Recipe(optimizer, "cosine", regularizers, batch=64, precision=precision, **parts)
        module = Classifier(net, recipe, **sizes)
        arguments = {"devices": 1, **recipe.trainer_arguments()}
        make_trainer(max_epochs=1, max_steps=10, **arguments).fit(module, datamodule=Digits())
        trained.append(parameters_of(module))
    torch.testing.assert_close(*trained, rtol=0, atol=1e-6 if precision == "32-true" else 1e-5)


class PartWatcher(UsersModule):
    """Tells the largest and the least number of samples that a process was given at a time."""

    def training_step(self, batch, batch_idx):
        self.log("largest", float(len(batch[0])), on_step=False, on_epoch=True, reduce_fx="max", sync_dist=True)
        self.log("least", float(len(batch[0])), on_step=False, on_epoch=True, reduce_fx="min", sync_dist=True)
        return super().training_step(batch, batch_idx)


@pytest.mark.slow
def test_a_foreign_datamodule_gives_each_process_its_share_of_the_batch():
    """Its own DataLoader knows nothing of processes: `batch` is global all the same.

    One process is a group of one, so that Lightning's distributed sampler deals out the same order to both.
    """
    trained = {}
    for devices in (1, 2):
        L.seed_everything(4, verbose=False)
        module = Recipe({"name": "sgd", "lr": 0.3, "momentum": 0.9}, batch=32).apply(PartWatcher())
        trainer = make_trainer(max_epochs=3, devices=devices, strategy="ddp_spawn")
        trainer.fit(module, datamodule=UsersData(batch_size=7, samples=96))
        shares = {float(trainer.callback_metrics[name]) for name in ("least", "largest")}
        assert shares == {32 / devices}
        trained[devices] = parameters_of(module)
    torch.testing.assert_close(trained[2], trained[1], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_two_processes_train_what_is_not_frozen():
    """DDP notes what is trained when it wraps the module: frozen after that, the second step would fail."""
    trained = {}
    for devices in (1, 2):
        L.seed_everything(4, verbose=False)
        recipe = Recipe({"name": "sgd", "lr": 0.3}, batch=32, parameters=[{"match": "net.0.*", "freeze": True}])
        module = recipe.apply(UsersModule())
        before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
        make_trainer(max_epochs=2, devices=devices, strategy="ddp_spawn").fit(module, datamodule=UsersData())
        moved = {name for name, parameter in module.named_parameters() if not torch.equal(parameter, before[name])}
        assert moved == {"net.2.weight", "net.2.bias"}
        trained[devices] = parameters_of(module)
    torch.testing.assert_close(trained[2], trained[1], rtol=0, atol=1e-6)


class PartedScores(UsersModule):
    """Logs, without ``sync_dist``, a score that gets better in one process and worse in the other."""

    SCORES = ((1.0, 2.0, 3.0, 4.0), (5.0, 4.0, 3.0, 1.0))  # their means: 3, 3, 3, 2.5

    def validation_step(self, batch, batch_idx):
        score = self.SCORES[self.global_rank][self.current_epoch]
        self.log("val_score", score if self.trainer.world_size == 2 else (3.0, 3.0, 3.0, 2.5)[self.current_epoch])

    def on_train_epoch_end(self):
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        gathered = self.all_gather(torch.tensor(rate)).reshape(-1)
        self.log(f"rate_{self.current_epoch}_min", gathered.min())
        self.log(f"rate_{self.current_epoch}_max", gathered.max())


@pytest.mark.slow
def test_plateau_sets_one_rate_in_all_processes():
    """By the mean of their values; judged apart, the rates would part, and the weights with them."""
    trained = {}
    for devices in (1, 2):
        L.seed_everything(4, verbose=False)
        schedule = {"name": "plateau", "monitor": "val_score", "patience": 0, "multiplier": 0.5}
        module = Recipe({"name": "sgd", "lr": 0.4}, schedule, batch=32).apply(PartedScores())
        trainer = make_trainer(max_epochs=4, devices=devices, strategy="ddp_spawn")
        trainer.fit(module, datamodule=UsersData())
        rates = {how: [float(trainer.callback_metrics[f"rate_{e}_{how}"]) for e in range(4)] for how in ("min", "max")}
        # The rate that each epoch is trained with: falls after the second and the third, whose mean is no better.
        assert rates["min"] == rates["max"] == pytest.approx([0.4, 0.4, 0.2, 0.1])
        trained[devices] = parameters_of(module)
    torch.testing.assert_close(trained[2], trained[1], rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="torch's SyncBatchNorm needs accelerators, one a process")
def test_synchronised_batch_norm_on_two_devices_is_batch_norm_on_one():
    """Each device sees half of a batch; mean and variance are of the whole batch all the same."""
    trained = []
    for devices in (1, 2):
        L.seed_everything(4, verbose=False)
        strategy = {"name": "ddp_spawn", "devices": 2, "sync_batchnorm": True} if devices == 2 else None
        recipe = Recipe({"name": "sgd", "lr": 0.1}, batch=64, strategy=strategy)
        net = {"name": "mlp", "hidden": [16], "norm": "batch"}
        module = Classifier(net, recipe, input_shape=(1, 8, 8), output_size=10)
        arguments = {"devices": 1, **recipe.trainer_arguments(), "accelerator": "gpu"}
        make_trainer(max_epochs=1, max_steps=10, **arguments).fit(module, datamodule=Digits())
        trained.append(parameters_of(module.cpu()))
    torch.testing.assert_close(*trained, rtol=0, atol=1e-5)
