"""EMA and SWA: the average that is evaluated, kept and resumed from is the one of the formula."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from running_suites import execute, make_data
from users_project import UsersData, UsersModule, make_trainer, parameters_of

from trainoff.datamodules import Digits
from trainoff.errors import UserError
from trainoff.modules import Classifier, Recipe
from trainoff.modules.nets.layers import norm_layer

CHOICES = {"ema": {"name": "ema", "decay": 0.8}, "swa": {"name": "swa", "start": 0.5}}


class Ordered(UsersData):
    """The same order in every epoch."""

    def train_dataloader(self):
        return torch.utils.data.DataLoader(self.train_set, batch_size=self.batch_size)


class Weights(L.Callback):
    """Those after each step, and those that each validation sees."""

    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []
        self.validated: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.steps.append(parameters_of(pl_module))

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if not trainer.sanity_checking:
            self.validated.append(parameters_of(pl_module))


def train(name, epochs=4, callbacks=(), **arguments):
    L.seed_everything(2, verbose=False)
    regularizers = [] if name is None else [CHOICES[name]]
    module = Recipe({"name": "sgd", "lr": 0.5}, regularizers=regularizers).apply(UsersModule())
    watch = Weights()
    trainer = make_trainer(max_epochs=epochs, callbacks=[watch, *callbacks], **arguments)
    trainer.fit(module, datamodule=Ordered())
    return module, watch, trainer


def test_training_goes_on_as_without_it():
    plain = train(None)[1]
    for name in CHOICES:
        assert torch.equal(torch.stack(train(name)[1].steps), torch.stack(plain.steps))


def test_ema_is_its_formula():
    module, watch, _ = train("ema")
    average, averages = watch.steps[0], []
    for update, weights in enumerate(watch.steps):
        if update:
            decay = min(0.8, (1 + update) / (10 + update))
            average = decay * average + (1 - decay) * weights
        averages.append(average)
    torch.testing.assert_close(parameters_of(module), average, rtol=0, atol=1e-6)
    for epoch, seen in enumerate(watch.validated):
        torch.testing.assert_close(seen, averages[6 * epoch + 5], rtol=0, atol=1e-6)


def test_swa_is_the_mean_of_the_last_epochs_ends():
    module, watch, _ = train("swa")
    ends = watch.steps[5::6]
    torch.testing.assert_close(parameters_of(module), torch.stack(ends[2:]).mean(0), rtol=0, atol=1e-6)
    # Before averaging begins validation sees the weights themselves, then the mean so far.
    expected = [ends[0], ends[1], ends[2], (ends[2] + ends[3]) / 2]
    torch.testing.assert_close(torch.stack(watch.validated), torch.stack(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", CHOICES)
def test_checkpoints_hold_both_and_a_resumed_training_ends_alike(name, tmp_path):
    keep = ModelCheckpoint(tmp_path, "{epoch}", every_n_epochs=1, save_top_k=-1)
    straight, watch, _ = train(name, callbacks=[keep], enable_checkpointing=True)
    saved = torch.load(tmp_path / "epoch=2.ckpt", weights_only=True)
    average = UsersModule()
    average.load_state_dict(saved["state_dict"])
    torch.testing.assert_close(parameters_of(average), watch.validated[2], rtol=0, atol=1e-6)
    average.load_state_dict(saved["current_model_state"])
    assert torch.equal(parameters_of(average), watch.steps[17])
    L.seed_everything(5, verbose=False)
    resumed = Recipe({"name": "sgd", "lr": 0.5}, regularizers=[CHOICES[name]]).apply(UsersModule())
    trainer = make_trainer(max_epochs=4)
    trainer.fit(resumed, datamodule=Ordered(), ckpt_path=tmp_path / "epoch=2.ckpt", weights_only=True)
    assert torch.equal(parameters_of(resumed), parameters_of(straight))


def test_a_checkpoint_before_averaging_begins_holds_the_weights(tmp_path):
    keep = ModelCheckpoint(tmp_path, "{epoch}", every_n_epochs=1, save_top_k=-1)
    straight, watch, _ = train("swa", callbacks=[keep], enable_checkpointing=True)
    module = UsersModule()
    module.load_state_dict(torch.load(tmp_path / "epoch=0.ckpt", weights_only=True)["state_dict"])
    assert torch.equal(parameters_of(module), watch.steps[5])
    resumed = Recipe({"name": "sgd", "lr": 0.5}, regularizers=[CHOICES["swa"]]).apply(UsersModule())
    trainer = make_trainer(max_epochs=4)
    trainer.fit(resumed, datamodule=Ordered(), ckpt_path=tmp_path / "epoch=0.ckpt", weights_only=True)
    assert torch.equal(parameters_of(resumed), parameters_of(straight))


@pytest.mark.parametrize("name", CHOICES)
def test_after_fit_another_state_is_evaluated_as_it_is(name):
    """Lightning's own callback would put the last average in its place."""
    module, _, trainer = train(name)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    trainer.validate(module, datamodule=Ordered(), verbose=False)
    assert not parameters_of(module).any()
    assert float(trainer.callback_metrics["val_loss"]) == pytest.approx(float(torch.tensor(3.0).log()), abs=1e-5)


@pytest.mark.parametrize("name", CHOICES)
def test_a_net_that_is_built_late_is_averaged_too(name):
    L.seed_everything(1, verbose=False)
    module = Classifier({"name": "mlp", "hidden": [8]}, recipe=Recipe(regularizers=[CHOICES[name]]))
    trainer = make_trainer(max_epochs=2)
    trainer.fit(module, datamodule=Digits())
    in_fit = float(trainer.callback_metrics["val/loss"])
    trainer.validate(module, datamodule=Digits(), verbose=False)
    assert float(trainer.callback_metrics["val/loss"]) == pytest.approx(in_fit, abs=1e-6)


def test_in_a_suite_the_best_state_is_the_averaged_one(tmp_path):
    """Validation said so of the average: the test score of the best epoch is that state's, in both of the record's."""
    recipes = {"ema": {"optimizer": {"name": "sgd", "lr": 0.1}, "regularizers": ["ema"], "batch": 64}}
    execute(make_data(recipes, seeds=1), tmp_path / "run")
    from trainoff.benchmarks.store import RunFolder

    (record,) = [r for r in RunFolder(tmp_path / "run").read_all()[0].values() if r.trial.stage == "final"]
    assert record.status == "ok"
    quality = record.quality
    assert quality.best.val.metric == max(record.curves.val_metric)
    if quality.best_epoch == len(record.curves.val_metric):
        assert quality.best == quality.last


def test_values_out_of_range_are_refused():
    with pytest.raises(UserError, match="a decay lies in"):
        Recipe(regularizers=[{"name": "ema", "decay": 1.0}]).validate()
    with pytest.raises(UserError, match="the start is a share"):
        Recipe(regularizers=[{"name": "swa", "start": 1.5}]).validate()
    module = Recipe(regularizers=["swa"]).apply(UsersModule())
    with pytest.raises(UserError, match="needs their number"):
        make_trainer(max_epochs=-1, max_steps=5).fit(module, datamodule=UsersData())


class Normed(UsersModule):
    """With batch norm, and a forward that the statistics can be taken by."""

    def __init__(self, norm="batch"):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(6, 5), norm_layer(norm, 5, 1), torch.nn.Linear(5, 3))

    def forward(self, inputs):
        return self.net(inputs)


@pytest.mark.parametrize("norm", ["batch", {"name": "ghost_batch", "size": 16}], ids=["batch", "ghost"])
@pytest.mark.parametrize("name", CHOICES)
def test_batch_norms_statistics_are_those_of_the_average(name, norm, tmp_path):
    L.seed_everything(2, verbose=False)
    module = Recipe({"name": "sgd", "lr": 0.5}, regularizers=[CHOICES[name]]).apply(Normed(norm))
    seen = []

    class Statistics(L.Callback):
        def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if trainer.sanity_checking:
                return
            norm, first = pl_module.net[1], pl_module.net[0]
            hidden = first(UsersData().train_set.tensors[0])
            seen.append((norm.running_mean.clone(), hidden.mean(0).detach()))

    checkpoint = ModelCheckpoint(tmp_path, filename="last")
    data = UsersData(batch_size=48)
    trainer = make_trainer(max_epochs=4, callbacks=[Statistics(), checkpoint], enable_checkpointing=True)
    trainer.fit(module, datamodule=data)
    averaged = seen if name == "ema" else seen[2:]  # before, the weights themselves are validated
    for (
        present,
        expected,
    ) in averaged:  # two equal batches, or six equal parts: the mean of their means is the mean over all
        torch.testing.assert_close(present, expected, rtol=1e-5, atol=1e-6)
    state = torch.load(checkpoint.best_model_path, weights_only=True)["state_dict"]
    assert torch.equal(state["net.1.running_mean"], module.net[1].running_mean)
    torch.testing.assert_close(state["net.1.running_mean"], seen[-1][1], rtol=1e-5, atol=1e-6)


def test_taking_statistics_draws_nothing_from_the_training():
    weights = []
    for regularizers in ([], ["ema"]):
        L.seed_everything(2, verbose=False)
        module = Recipe({"name": "sgd", "lr": 0.5}, regularizers=regularizers).apply(Normed())
        watch = Weights()
        make_trainer(max_epochs=3, callbacks=[watch]).fit(module, datamodule=UsersData())
        weights.append(torch.stack(watch.steps))
    assert torch.equal(*weights)
