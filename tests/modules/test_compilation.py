"""Compiled nets: really compiled, with the same results and the same names."""

from __future__ import annotations

import multiprocessing

import pytest
import torch
from torch import nn
from torch._dynamo import register_backend
from users_project import UsersData, UsersModule, make_trainer, parameters_of, train_and_tell

from trainoff.benchmarks.meters.flops import FlopMeter
from trainoff.datamodules import Digits
from trainoff.errors import UserError
from trainoff.modules import GAN, Classifier, Recipe


class Counting:
    """A backend that counts the graphs it is given and leaves them as they are."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph.forward


COUNTING = Counting()
register_backend(COUNTING, name="counting")  # a recipe holds names only


@pytest.fixture
def backend():
    torch._dynamo.reset()
    COUNTING.graphs = 0
    return COUNTING


def classifier(**choices):
    torch.manual_seed(3)
    recipe = Recipe({"name": "sgd", "lr": 0.05}, batch=128, **choices)
    net = {"name": "resnet20", "width": 2}
    return Classifier(net, recipe, input_shape=(1, 8, 8), output_size=10)


def test_the_nets_are_compiled_also_after_the_counter_of_operations_has_watched(backend):
    """A frame that torch first meets under such a counter it would never compile."""
    module, meter = classifier(compile={"backend": "counting"}), FlopMeter()
    make_trainer(max_steps=3, limit_val_batches=0, callbacks=[meter]).fit(module, datamodule=Digits())
    assert backend.graphs == 1
    assert meter.flops_per_sample


@pytest.mark.parametrize("checkpointing", [None, True])
def test_a_compiled_net_trains_to_the_same_weights(checkpointing):
    trained = []
    for options in (None, {"backend": "aot_eager"}):
        module = classifier(compile=options, activation_checkpointing=checkpointing)
        names = list(module.state_dict())
        make_trainer(max_steps=3).fit(module, datamodule=Digits())
        assert list(module.state_dict()) == names
        trained.append(module)
    first, second = map(parameters_of, trained)
    torch.testing.assert_close(second, first, rtol=0, atol=1e-5)
    statistics = [dict(module.named_buffers()) for module in trained]
    torch.testing.assert_close(statistics[1], statistics[0], rtol=1e-4, atol=1e-5)


def test_a_foreign_net_of_torchs_own_class_is_compiled_and_another_recipe_takes_it_back(backend):
    """``nn.Sequential.compile()`` does nothing."""
    module = Recipe("sgd", compile={"backend": "counting"}).apply(UsersModule())
    assert type(module.net) is nn.Sequential
    make_trainer(max_steps=2, limit_val_batches=0).fit(module, datamodule=UsersData())
    assert backend.graphs == 1
    Recipe("sgd").apply(module)
    torch._dynamo.reset()
    make_trainer(max_steps=2, limit_val_batches=0).fit(module, datamodule=UsersData())
    assert backend.graphs == 1


def test_it_reaches_a_spawned_process():
    receiving, sending = multiprocessing.Pipe(duplex=False)
    module = Recipe({"name": "adamw", "lr": 0.01}, compile={"backend": "eager"}).apply(UsersModule())
    process = multiprocessing.get_context("spawn").Process(target=train_and_tell, args=(module, sending))
    process.start()
    optimizer, _, _ = receiving.recv()
    process.join()
    assert optimizer == "AdamW"
    assert process.exitcode == 0


@pytest.mark.parametrize(
    "recipe", [Recipe("sgd", regularizers=["gradient_penalty"], compile=True), Recipe("adahessian", compile=True)]
)
def test_what_differentiates_twice_is_refused(recipe):
    with pytest.raises(UserError, match="differentiates twice, which a compiled net does not allow"):
        recipe.validate()


@pytest.mark.parametrize("field", ["compile", "activation_checkpointing"])
def test_a_gan_refuses(field):
    with pytest.raises(UserError, match="a GAN's nets are computed as they are"):
        GAN("dcgan", Recipe("adam", **{field: True}))


def test_unknown_options_and_backends_are_refused():
    with pytest.raises(UserError, match=r"compile\.modes: there is no 'modes'; did you mean mode"):
        Recipe(compile={"modes": "max-autotune"})
    with pytest.raises(UserError, match="compile: "):
        classifier(compile={"backend": "inductorr"})
