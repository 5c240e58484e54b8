"""Stochastic depth: who is left out, how often, and that the mean stays."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from users_project import UsersData, UsersModule, make_trainer

from trainoff.datamodules import Digits
from trainoff.errors import UserError
from trainoff.modules import Classifier, Recipe
from trainoff.modules.nets.drop_path import DropPath
from trainoff.modules.nets.resnet_cifar import CifarResNet


def test_whole_samples_are_left_out_and_the_mean_stays():
    L.seed_everything(0, verbose=False)
    layer, inputs = DropPath(0.3), torch.randn(20_000, 2, 3)
    outputs = layer(inputs)
    left_out = (outputs == 0).flatten(1).all(1)
    assert left_out.float().mean().item() == pytest.approx(0.3, abs=5 * (0.3 * 0.7 / 20_000) ** 0.5)
    torch.testing.assert_close(outputs[~left_out], inputs[~left_out] / 0.7)
    assert torch.equal(layer.eval()(inputs), inputs)


def test_the_shares_grow_linearly_with_depth_during_fit():
    shares = []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            shares.append([part.p for part in pl_module.modules() if isinstance(part, DropPath)])

    recipe = Recipe("sgd", regularizers=[{"name": "drop_path", "p": 0.6}], batch="full")
    module = Classifier({"name": "resnet20", "depth": 8, "width": 2}, recipe)
    make_trainer(callbacks=[Watch()]).fit(module, datamodule=Digits(train_samples=50))
    assert shares[0] == pytest.approx([0.2, 0.4, 0.6])
    assert not any(part.p for part in module.modules() if isinstance(part, DropPath))


def test_a_net_has_its_own_share():
    net = CifarResNet((1, 8, 8), 10, depth=8, width=2, drop_path=0.3)
    assert [block.drop_path.p for block in net.blocks] == pytest.approx([0.1, 0.2, 0.3])


def test_a_net_without_branches_is_refused():
    with pytest.raises(UserError, match="no residual branch"):
        make_trainer().fit(Recipe(regularizers=["drop_path"]).apply(UsersModule()), datamodule=UsersData())
