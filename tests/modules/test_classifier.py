"""trainoff's own LightningModules: how the net is built, what is logged, and that it is right to the last sample."""

from __future__ import annotations

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from users_project import UsersData, make_trainer

from trainoff.datamodules import Diabetes, Digits
from trainoff.errors import UserError
from trainoff.modules import Classifier, Recipe, Regressor


class DrawsInSetup(L.Callback):
    """Draws random numbers before the net is built."""

    def setup(self, trainer, pl_module, stage):
        torch.randn(100)


class Keep(L.Callback):
    """Keeps the first weights."""

    def on_train_start(self, trainer, pl_module):
        self.state = {key: value.clone() for key, value in pl_module.state_dict().items()}


def first_weights(*callbacks, recipe="sgd"):
    L.seed_everything(3, verbose=False)
    keep = Keep()
    module = Classifier({"name": "mlp", "hidden": [8]}, recipe=recipe)
    make_trainer(callbacks=[*callbacks, keep]).fit(module, datamodule=Digits())
    return keep.state


def test_a_callback_that_draws_changes_no_weight():
    """The net is built in configure_model, after the callbacks' setup."""
    plain, disturbed = first_weights(), first_weights(DrawsInSetup())
    assert all(torch.equal(plain[key], disturbed[key]) for key in plain)


def test_the_same_net_whether_sizes_are_given_or_come_from_the_data():
    L.seed_everything(3, verbose=False)
    torch.randn(7)
    given = Classifier({"name": "mlp", "hidden": [8]}, "sgd", input_shape=(1, 8, 8), output_size=10)
    late = first_weights()
    assert all(torch.equal(value, late[key]) for key, value in given.state_dict().items())


def test_sizes_are_kept_in_the_hyperparameters():
    module = Classifier("mlp", recipe="sgd")
    make_trainer().fit(module, datamodule=Digits())
    assert (module.hparams["input_shape"], module.hparams["output_size"]) == ([1, 8, 8], 10)


def test_without_sizes_the_error_says_what_to_give():
    data = UsersData()
    with pytest.raises(UserError, match="input_shape and output_size, and UsersData has not both"):
        make_trainer().fit(Classifier("mlp"), datamodule=data)
    with pytest.raises(UserError, match="there is no DataModule"):
        make_trainer().fit(Classifier("mlp"), data.train_dataloader(), data.val_dataloader())
    with pytest.raises(UserError, match="built when a Trainer starts"):
        Classifier("mlp")(torch.zeros(1, 3))


@pytest.mark.parametrize(
    ("net", "part"),
    [
        ("mpl", "did you mean mlp"),
        ({"hidden": [3]}, "has no name"),
        ({"name": "mlp", "hiden": [3]}, "did you mean hidden"),
    ],
)
def test_a_wrong_net_is_said(net, part):
    with pytest.raises(UserError, match=part):
        Classifier(net)


def test_losses_are_means_over_samples_also_with_a_short_last_batch():
    """96 samples in batches of 36 and 28: the mean of batch means would be another number."""
    data = UsersData(batch_size=36)
    inputs, targets = data.held_out.tensors
    net = nn.Linear(6, 3)
    module = Classifier(net, recipe={"optimizer": {"name": "sgd", "lr": 0.0}})
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=28)
    trainer = make_trainer()
    trainer.fit(module, data.train_dataloader(), loader)
    with torch.no_grad():
        on_train = F.cross_entropy(net(data.train_set.tensors[0]), data.train_set.tensors[1])
        outputs = net(inputs)
    logged = trainer.callback_metrics
    torch.testing.assert_close(logged["train/loss"], on_train)
    torch.testing.assert_close(logged["val/loss"], F.cross_entropy(outputs, targets))
    torch.testing.assert_close(logged["val/accuracy"], (outputs.argmax(1) == targets).float().mean())


def test_the_training_loss_leaves_penalties_out():
    data = UsersData(batch_size=96)
    recipe = Recipe({"name": "sgd", "lr": 0.0}, regularizers=[{"name": "l2", "coefficient": 100.0}])
    net = nn.Linear(6, 3)
    trainer = make_trainer()
    trainer.fit(Classifier(net, recipe=recipe), datamodule=data)
    expected = F.cross_entropy(net(data.train_set.tensors[0]), data.train_set.tensors[1])
    torch.testing.assert_close(trainer.callback_metrics["train/loss"], expected.detach())


def test_a_module_that_was_validated_can_be_fitted_again():
    """``trainer.validate`` runs in inference mode, and metrics that are reset there cannot be updated elsewhere."""
    module = Classifier("linear", Recipe("sgd"), input_shape=(1, 8, 8), output_size=10)
    seen = []
    for _ in range(2):
        trainer = make_trainer(num_sanity_val_steps=2)
        trainer.fit(module, datamodule=Digits())
        in_fit = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        trainer.validate(module, datamodule=Digits(), verbose=False)
        after = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        assert after == pytest.approx(in_fit)
        seen.append(after["val/loss"])
    assert seen[1] < seen[0]


def test_a_regressors_metrics_are_their_formulas():
    module = Regressor("linear", recipe="sgd")
    trainer = make_trainer()
    data = Diabetes()
    trainer.fit(module, datamodule=data)
    found = trainer.test(module, datamodule=data, verbose=False)[0]
    inputs, targets = data.split("test")
    with torch.no_grad():
        residuals = (module(inputs) - targets).flatten().double()
    centred = (targets - targets.mean()).flatten().double()
    assert found["test/mse"] == pytest.approx((residuals**2).mean().item(), rel=1e-4)
    assert found["test/mae"] == pytest.approx(residuals.abs().mean().item(), rel=1e-4)
    assert found["test/r2"] == pytest.approx(1 - ((residuals**2).sum() / (centred**2).sum()).item(), rel=1e-3)
    assert found["test/loss"] == pytest.approx(found["test/mse"], rel=1e-4)


def test_targets_of_one_dimension_do_not_broadcast():
    """(n, 1) minus (n,) would be (n, n), and the loss a silent mistake."""
    module = Regressor(nn.Linear(2, 1))
    assert module.align(torch.zeros(5, 1), torch.arange(5)).shape == (5, 1)


def test_predictions():
    module = Classifier(nn.Linear(6, 3), recipe="sgd")
    data = UsersData()
    predicted = make_trainer().predict(module, data.val_dataloader())
    torch.testing.assert_close(torch.cat(predicted), module(data.held_out.tensors[0]))


def test_any_logger_gets_the_fixed_names(tmp_path):
    from lightning.pytorch.loggers import CSVLogger

    logger = CSVLogger(tmp_path)
    trainer = make_trainer(max_epochs=2, logger=logger, log_every_n_steps=2)
    trainer.fit(Classifier({"name": "mlp", "hidden": [8]}, recipe="sgd"), datamodule=Digits())
    header = (tmp_path / "lightning_logs/version_0/metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/loss", "train/loss_step", "val/loss", "val/accuracy"} <= set(header)
