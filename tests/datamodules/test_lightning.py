from __future__ import annotations

from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from users_project import LeavesInOrder

from trainoff.datamodules import MNIST1D, Digits, TensorBatches
from trainoff.modules import Classifier, Recipe


class Recorder(L.LightningModule):
    """A linear classifier that records what it is given."""

    def __init__(self, folder: str | None = None) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)
        self.folder = folder
        self.batches: list[torch.Tensor] = []
        self.validated = 0

    def training_step(self, batch, batch_idx):
        inputs, targets = batch
        self.batches.append(inputs.flatten(1).sum(1))
        return torch.nn.functional.cross_entropy(self.layer(inputs.flatten(1)), targets)

    def validation_step(self, batch, batch_idx):
        self.validated += len(batch[1])

    test_step = validation_step

    def on_fit_end(self):
        if self.folder:
            torch.save((self.batches, self.validated), Path(self.folder) / f"{self.trainer.global_rank}.pt")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class CountSamples(L.Callback):
    """How many have been trained on."""

    samples = 0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.samples += len(batch[1])


def trainer(**arguments) -> L.Trainer:
    defaults = {
        "max_epochs": 2,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    return L.Trainer(**(defaults | arguments))


@pytest.mark.parametrize(
    ("batch", "parts", "steps"), [(128, 1, 9), (128, 4, 9), (100, 3, 11), ("full", 5, 1), (1078, 7, 2)]
)
def test_a_step_is_a_global_batch_whatever_the_microbatches(batch, parts, steps):
    net, data = Recorder(), Digits(batch_size=batch, microbatches=parts)
    runner = trainer(accumulate_grad_batches=parts)
    runner.fit(net, data)
    assert runner.global_step == 2 * steps
    per_epoch = len(data.train_dataloader())
    assert len(net.batches) == 2 * per_epoch
    first, second = torch.cat(net.batches[:per_epoch]), torch.cat(net.batches[per_epoch:])
    assert len(first) == 1079
    assert torch.equal(first.sort().values, second.sort().values)
    assert not torch.equal(first, second)
    assert net.validated == 2 * 359
    runner.test(net, data, verbose=False)
    assert net.validated == 3 * 359


def test_microbatches_keep_the_order_of_the_undivided_batch():
    nets = Recorder(), Recorder()
    for net, parts in zip(nets, (1, 4), strict=True):
        torch.manual_seed(5)
        trainer(accumulate_grad_batches=parts).fit(net, Digits(microbatches=parts))
    assert torch.equal(torch.cat(nets[0].batches), torch.cat(nets[1].batches))


def test_a_resumed_epoch_has_the_order_it_would_have_had(tmp_path):
    torch.manual_seed(3)
    straight = Recorder()
    trainer(max_epochs=3).fit(straight, Digits())
    torch.manual_seed(3)
    begun = trainer(max_epochs=1)
    begun.fit(Recorder(), Digits())
    begun.save_checkpoint(tmp_path / "one.ckpt")
    torch.manual_seed(3)
    resumed = Recorder()
    trainer(max_epochs=3).fit(resumed, Digits(), ckpt_path=tmp_path / "one.ckpt")
    assert torch.equal(torch.cat(resumed.batches), torch.cat(straight.batches[9:]))
    assert torch.equal(resumed.layer.weight, straight.layer.weight)


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("step", [4, 12])
def test_a_training_resumed_within_an_epoch_ends_where_an_uninterrupted_one_does(step, parts, tmp_path):
    """An epoch has 9 steps: within the first one, and within the second; a step is 3 parts."""

    def run(*callbacks, checkpointing=False, **fit):
        L.seed_everything(8, verbose=False)
        recipe = Recipe({"name": "adamw", "lr": 1e-2}, "cosine", ["l2", "ema"], microbatches=parts)
        net = Classifier({"name": "mlp", "hidden": [8]}, recipe)
        arguments = {"callbacks": list(callbacks), "enable_checkpointing": checkpointing}
        runner = trainer(max_epochs=3, **arguments, **recipe.trainer_arguments())
        runner.fit(net, Digits(), **fit)
        return net, runner

    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=4, save_top_k=-1)
    straight, _ = run(keep, checkpointing=True)
    count = CountSamples()
    resumed, runner = run(count, ckpt_path=tmp_path / f"step={step}.ckpt", weights_only=True)
    assert runner.global_step == 27
    assert count.samples == 3 * 1079 - (4 * 128 if step == 4 else 1079 + 3 * 128)
    for (name, first), second in zip(straight.net.named_parameters(), resumed.net.parameters(), strict=True):
        assert torch.equal(first, second), name


def test_a_resumed_epoch_goes_on_with_the_samples_that_are_left_whatever_the_seed_now(tmp_path):
    """A user who sets no seed has another one in the next process."""
    torch.manual_seed(3)
    straight = Recorder()
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=13, save_top_k=-1)
    trainer(max_epochs=3, callbacks=[keep], enable_checkpointing=True).fit(straight, Digits())
    torch.manual_seed(4)
    resumed = Recorder()
    trainer(max_epochs=3).fit(resumed, Digits(), ckpt_path=tmp_path / "step=13.ckpt", weights_only=True)
    assert torch.equal(torch.cat(resumed.batches), torch.cat(straight.batches[13:]))


def test_the_order_is_the_same_whatever_the_module_draws():
    class Drawing(Recorder):
        def setup(self, stage):
            torch.rand(5)

        def training_step(self, batch, batch_idx):
            torch.rand(3)
            return super().training_step(batch, batch_idx)

    nets = []
    for module in (Recorder, Drawing):
        L.seed_everything(4, verbose=False)
        nets.append(module())
        trainer().fit(nets[-1], Digits())
    assert torch.equal(torch.cat(nets[0].batches), torch.cat(nets[1].batches))


def test_overfitting_a_few_batches_sees_the_same_ones_every_epoch(recwarn):
    net = Recorder()
    trainer(overfit_batches=2).fit(net, Digits())
    assert not [warning for warning in recwarn if "shuffling" in str(warning.message)]
    assert len(net.batches) == 4
    assert torch.equal(torch.cat(net.batches[:2]), torch.cat(net.batches[2:]))


def test_ranks_come_from_the_strategy():
    class Strategy:
        root_device = torch.device("meta")

    class Attached:
        distributed_sampler_kwargs = {"num_replicas": 2, "rank": 1}
        strategy = Strategy()
        overfit_batches = 0.0

    data = Digits(batch_size=100)
    data.trainer = Attached()
    train, val = data.train_dataloader(), data.val_dataloader()
    assert isinstance(train, TensorBatches)
    assert [(batches.rank, batches.world_size) for batches in (train, val)] == [(1, 2)] * 2
    assert [len(targets) for _, targets in train] == [50] * 10 + [39]
    assert [len(targets) for _, targets in val] == [180]
    assert {inputs.device.type for inputs, _ in train} == {"meta"}


@pytest.mark.slow
def test_two_processes_see_the_batches_of_one(tmp_path):
    torch.manual_seed(6)
    alone = Recorder()
    trainer(max_epochs=2).fit(alone, Digits(batch_size=100))
    torch.manual_seed(6)
    spread = trainer(max_epochs=2, strategy="ddp_spawn", devices=2, callbacks=[LeavesInOrder()])
    L.seed_everything(6, verbose=False)
    spread.fit(Recorder(str(tmp_path)), Digits(batch_size=100))
    (first, validated), (second, also) = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert validated + also == 2 * 359
    assert len(first) == len(second) == len(alone.batches)
    for parts, batch in zip(zip(first, second, strict=True), alone.batches, strict=True):
        together = torch.cat(parts)
        assert torch.equal(together, batch[: len(together)])  # 1,079 samples: the last one is left out
        assert len(batch) - len(together) in (0, 1)


def test_a_datamodule_comes_back_from_a_checkpoint(tmp_path):
    runner = trainer(max_epochs=1)
    data = MNIST1D(batch_size="full", label_noise=0.1)
    net = Recorder()
    net.layer = torch.nn.Linear(40, 10)
    runner.fit(net, data)
    runner.save_checkpoint(tmp_path / "one.ckpt")
    back = MNIST1D.load_from_checkpoint(tmp_path / "one.ckpt", weights_only=True)
    assert back.batch_size == "full"
    assert back.digest() == data.digest()
