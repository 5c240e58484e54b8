"""Int8 dynamic quantisation: the arithmetic by hand, where it acts, and what it leaves alone."""

from __future__ import annotations

import io
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from pruning_runs import Deep, OrderedData, copy_of, train
from torch import nn
from users_project import UsersData, UsersModule, make_trainer

from trainoff.benchmarks.engines.trainer import Surroundings
from trainoff.benchmarks.engines.trainer import train as train_trial
from trainoff.benchmarks.trial import Budget, Task, Trial
from trainoff.datamodules import Digits
from trainoff.errors import UserError
from trainoff.modules import Classifier, Recipe
from trainoff.modules.pruning.base import pruning_of
from trainoff.modules.pruning.int8 import quantised


def test_a_layer_is_its_integers():
    """Weights: one symmetric scale a layer, eight bits. Activations: seven bits of each batch's range."""
    torch.manual_seed(0)
    layer, inputs = nn.Linear(40, 30), torch.randn(5, 40)
    made = quantised(layer)
    weight = made.weight()
    scale = float(weight.q_scale())
    exact = layer.weight.detach().numpy()
    assert scale == pytest.approx(np.abs(exact).max() / 127.5, rel=1e-6)
    integers = np.clip(np.round(exact / scale), -128, 127)
    np.testing.assert_array_equal(weight.int_repr().numpy(), integers)
    low, high = min(float(inputs.min()), 0), max(float(inputs.max()), 0)
    step = (high - low) / 127  # the kernels leave a bit free, so that no sum of products overflows
    bound = np.abs(integers * scale).sum(1) * step
    expected = inputs.numpy() @ (integers * scale).T + layer.bias.detach().numpy()
    assert (np.abs(made(inputs).detach().numpy() - expected) <= bound + 1e-5).all()
    assert (np.abs(made(inputs).detach().numpy() - expected)).max() > 0


def digits(**arguments):
    L.seed_everything(0, verbose=False)
    recipe = Recipe({"name": "adamw", "lr": 3e-3}, pruning={"name": "int8", **arguments})
    module = Classifier({"name": "mlp", "hidden": [64, 64]}, recipe=recipe)
    trainer = make_trainer(max_epochs=5)
    trainer.fit(module, datamodule=Digits(batch_size=64))
    return module, trainer


def kinds(module):
    """Where the affine layers are from: torch.nn, or torch.ao.nn for quantised ones."""
    names = [type(part).__module__ for part in module.modules() if "Linear" in type(part).__name__]
    return {"torch.nn" if name.startswith("torch.nn") else "torch.ao.nn" for name in names}


def test_evaluation_after_training_is_the_int8_nets_and_the_module_is_float_again():
    module, trainer = digits()
    before, in_fit = copy_of(module), float(trainer.callback_metrics["val/loss"])
    (found,) = trainer.validate(module, datamodule=Digits(), verbose=False)
    assert kinds(module) == {"torch.nn"}
    assert found["val/loss"] != in_fit
    assert found["val/loss"] == pytest.approx(in_fit, abs=0.02)
    trainer.test(module, datamodule=Digits(), verbose=False)
    assert kinds(module) == {"torch.nn"}
    inputs = torch.randn(50, *module.hparams["input_shape"])
    (outputs,) = trainer.predict(module, torch.utils.data.DataLoader(inputs, batch_size=50))
    exact = module.eval()(inputs).detach()
    assert not torch.equal(outputs, exact)
    torch.testing.assert_close(outputs, exact, rtol=0, atol=0.05 * float(exact.abs().max()))
    assert kinds(module) == {"torch.nn"}
    assert all(torch.equal(value, before[name]) for name, value in copy_of(module).items())
    trainer.fit_loop.max_epochs = 6
    trainer.fit(module, datamodule=Digits(batch_size=64))  # it trains on, as ever


def test_training_is_that_of_a_recipe_without_it():
    plain, quantising = train(None, epochs=2)[0], train("int8", epochs=2)[0]
    assert all(torch.equal(value, copy_of(plain)[name]) for name, value in copy_of(quantising).items())


def test_checkpoints_are_the_float_nets(tmp_path):
    module, trainer = digits()
    trainer.test(module, datamodule=Digits(), verbose=False)
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    loaded = Classifier.load_from_checkpoint(tmp_path / "end.ckpt", weights_only=True)
    assert all(torch.equal(value, copy_of(module)[name]) for name, value in copy_of(loaded).items())


def test_an_error_in_between_leaves_the_float_layers():
    class Failing(Deep):
        def test_step(self, batch, batch_idx):
            raise RuntimeError("no")

    module, _, _, trainer = train("int8", epochs=1, module=Failing())
    with pytest.raises(RuntimeError, match="no"):
        trainer.test(module, datamodule=OrderedData(), verbose=False)
    assert kinds(module) == {"torch.nn"}


def test_shared_excluded_and_other_layers():
    class Odd(nn.Linear):
        pass

    class Shared(UsersModule):
        def __init__(self):
            super().__init__()
            inner = nn.Linear(8, 8)
            self.net = nn.Sequential(nn.Linear(6, 8), inner, inner, Odd(8, 8), nn.Linear(8, 3))

    module, _, _, _ = train({"name": "int8", "exclude": ["net.4.*"]}, epochs=1, module=Shared())
    pruning = pruning_of(module)
    pruning.convert(module)
    names = [type(part).__name__ for part in module.net]
    assert names == ["Linear", "Linear", "Linear", "Odd", "Linear"]
    assert [part.__class__.__module__.startswith("torch.ao") for part in module.net] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert module.net[1] is module.net[2]
    pruning.restore(module)
    assert [type(part) for part in module.net] == [nn.Linear, nn.Linear, nn.Linear, Odd, nn.Linear]
    assert module.net[1] is module.net[2]


def test_a_record_says_how_close_and_how_small_it_is():
    task = Task(
        "t",
        {"name": "classifier", "net": {"name": "mlp", "hidden": [256, 256]}},
        {"name": "digits"},
        "accuracy",
        "max",
        Budget(epochs=4),
    )
    setting = {"optimizer": {"name": "adamw", "lr": 3e-3}, "pruning": "int8"}
    record = train_trial(Trial("s", task, "r", setting, {}, "final", 0, "", {}), Surroundings())
    found = record.compression
    assert record.status == "ok"
    assert found.metric_before == record.curves.val_metric[record.quality.best_epoch - 1]
    assert found.metric_after == record.quality.best.val.metric == pytest.approx(found.metric_before, abs=0.01)
    assert found.bytes_on_disk < 0.3 * found.dense_bytes
    assert found.latency_seconds != found.dense_latency_seconds
    assert found.sparsity == 0


def test_an_accelerator_is_refused():
    module = Recipe("sgd", pruning="int8").apply(Deep())
    trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cuda")))
    with pytest.raises(UserError, match="pruning: torch quantises dynamically on a CPU only, and this Trainer's"):
        pruning_of(module).setup(trainer, module, "fit")


def test_a_module_without_affine_layers_is_refused():
    class Convolution(UsersModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 3, 6), nn.Flatten())

    module = Recipe("sgd", pruning="int8").apply(Convolution())
    with pytest.raises(UserError, match=r"Convolution has no nn.Linear that could be quantised"):
        make_trainer().fit(module, datamodule=UsersData())


def test_the_int8_state_is_a_quarter_on_disk():
    layer = nn.Linear(256, 256)
    sizes = []
    for part in (layer, quantised(layer)):
        file = io.BytesIO()
        torch.save(part.state_dict(), file)
        sizes.append(file.tell())
    assert sizes[1] < 0.3 * sizes[0]
