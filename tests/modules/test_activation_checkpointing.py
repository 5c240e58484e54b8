"""Blocks that are computed again: less is kept, and nothing else is different."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from users_project import UsersData, UsersModule, make_trainer, parameters_of

from trainoff.datamodules import Digits
from trainoff.errors import UserError
from trainoff.modules import Classifier, Recipe
from trainoff.modules.activation_checkpointing import clear_activation_checkpointing, set_activation_checkpointing
from trainoff.modules.nets import NETS

WITH_BLOCKS = [
    "resnet20",
    "resnet18",
    "resnet50",
    "wideresnet28_10",
    "densenet121",
    "googlenet",
    "se_resnet50",
    "dynamic_se_resnet",
    "vit_tiny",
    "tcn",
    "gpt2",
    "bert",
    "transformer",
]
WITHOUT_BLOCKS = ["mlp", "lenet5", "alexnet", "vgg16", "3c3d"]


def tiny(name):
    entry = NETS[name]
    torch.manual_seed(0)
    net = entry.load()(input_shape=entry.tiny_shape, output_size=10, **{**entry.tiny, "dropout": 0.2})
    if not entry.domain.startswith("token"):
        return net, (torch.randn(4, *entry.tiny_shape),)
    series = 2 if entry.domain == "token pairs" else 1
    return net, tuple(torch.randint(3, 10, (4, *entry.tiny_shape)) for _ in range(series))


def gradients_and_kept_bytes(net, inputs):
    """Of one training pass, whose dropout is drawn from a seed; and the bytes that it keeps for the way back."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(7)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = net(*inputs).square().mean()
    weights = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}
    bytes_kept = sum(size for place, size in kept.items() if place not in weights)
    return torch.autograd.grad(loss, list(net.parameters())), bytes_kept


@pytest.mark.parametrize("name", WITH_BLOCKS)
def test_gradients_and_statistics_are_the_same_and_less_is_kept(name):
    """Dropout draws the same zeros again, batch norm counts each batch once."""
    net, inputs = tiny(name)
    other = copy.deepcopy(net)
    set_activation_checkpointing(other, None)
    (gradients, kept), (again, kept_less) = (
        gradients_and_kept_bytes(net, inputs),
        gradients_and_kept_bytes(other, inputs),
    )
    torch.testing.assert_close(again, gradients, rtol=0, atol=0)
    torch.testing.assert_close(dict(other.named_buffers()), dict(net.named_buffers()), rtol=0, atol=0)
    assert kept_less < kept
    assert list(other.state_dict()) == list(net.state_dict())


def test_a_deep_net_keeps_its_blocks_inputs_and_no_more():
    """Of 16 blocks of GPT-2, each 4 · 8 · 16 numbers: what lies outside the blocks is the same in both."""
    kept = {}
    for depth in (8, 16):
        torch.manual_seed(0)
        net = NETS["gpt2"].load()((8,), 10, width=16, depth=depth, heads=2, dropout=0.0)
        set_activation_checkpointing(net, "blocks.*")
        kept[depth] = gradients_and_kept_bytes(net, (torch.randint(10, (4, 8)),))[1]
    assert kept[16] - kept[8] == 8 * (4 * 8 * 16) * 4


@pytest.mark.parametrize("name", WITHOUT_BLOCKS)
def test_a_net_without_blocks_asks_for_names(name):
    net, _ = tiny(name)
    with pytest.raises(UserError, match="has no blocks that repeat; say which modules"):
        set_activation_checkpointing(net, None)


def test_names_choose_the_outermost_modules_and_unknown_ones_are_refused():
    net, inputs = tiny("vgg16")
    names = set_activation_checkpointing(net, "convolutions.*")
    assert names == [f"convolutions.{number}" for number in range(len(net.convolutions))]
    assert set_activation_checkpointing(net, "convolutions") == ["convolutions"]
    with pytest.raises(UserError, match="no module of the net is called 'blocks"):
        set_activation_checkpointing(net, "blocks.*")
    clear_activation_checkpointing(net)
    assert not any("forward" in vars(part) for part in net.modules())
    assert len(inputs) == 1


def test_copies_and_pickles_compute_with_their_own_weights():
    net, inputs = tiny("gpt2")
    set_activation_checkpointing(net, None)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
        assert not other(*inputs).any()
    assert net(*inputs).any()


def train(net, **choices):
    torch.manual_seed(3)
    recipe = Recipe({"name": "sgd", "lr": 0.05}, batch=128, **choices)
    module = Classifier(net, recipe, input_shape=(1, 8, 8), output_size=10)
    make_trainer(max_steps=3).fit(module, datamodule=Digits())
    return parameters_of(module)


def test_a_recipe_with_it_trains_to_the_same_weights():
    net = {"name": "resnet20", "width": 2}
    assert torch.equal(train(net, activation_checkpointing=True), train(net))
    assert Recipe(activation_checkpointing=False) == Recipe()
    assert Recipe(activation_checkpointing=True).to_dict()["activation_checkpointing"] is True


class Deep(UsersModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 8), UsersBlock(), UsersBlock(), nn.Linear(8, 3))


class UsersBlock(nn.Module):
    calls = 0

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        type(self).calls += 1
        return x + self.layer(x).tanh()


def test_a_foreign_modules_blocks_are_found_and_another_recipe_takes_it_back():
    module = Recipe("sgd", activation_checkpointing=True).apply(Deep())
    counts = []
    for recipe in (None, Recipe("sgd")):
        module = module if recipe is None else recipe.apply(module)
        UsersBlock.calls = 0
        make_trainer(max_steps=1, limit_val_batches=0).fit(module, datamodule=UsersData())
        counts.append(UsersBlock.calls)
    assert counts == [4, 2]


def test_what_it_cannot_mean_is_refused():
    with pytest.raises(UserError, match="is neither true nor false"):
        Recipe(activation_checkpointing="yes")
    with pytest.raises(UserError, match="there is no 'matches'; did you mean match"):
        Recipe(activation_checkpointing={"matches": "blocks.*"})
