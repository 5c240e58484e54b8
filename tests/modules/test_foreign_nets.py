"""Nets that are not trainoff's: functions, parts named by class_path, outputs with logits, timm and transformers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from users_project import make_trainer

from trainoff.datamodules import Digits
from trainoff.errors import UserError
from trainoff.modules import Classifier, Recipe, Regressor


class WithBody(nn.Module):
    """A net that is given its layers, and returns an object as transformers' models do."""

    def __init__(self, body: nn.Module, scale: float = 1.0) -> None:
        super().__init__()
        self.body, self.scale = body, scale

    def forward(self, x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.scale * self.body(x.flatten(1)), hidden_states=None)


def two_layers(inputs: int, last: nn.Module, width: int = 7) -> nn.Module:
    """A function that makes a net, with a part of its own."""
    return nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), last)


HERE = __name__
LINEAR = {"class_path": "torch.nn.Linear", "init_args": {"in_features": 7, "out_features": 10}}
BODY = {"class_path": f"{HERE}.two_layers", "init_args": {"inputs": 64, "last": LINEAR}}
NET: dict[str, Any] = {"class_path": f"{HERE}.WithBody", "init_args": {"body": BODY, "scale": 0.5}}
SIZES: dict[str, Any] = {"input_shape": (1, 8, 8), "output_size": 10}


def test_parts_are_built_and_logits_are_taken() -> None:
    module: Any = Classifier(NET, **SIZES)
    w1, b1, w2, b2 = module.net.body.parameters()
    x = torch.randn(5, 1, 8, 8)
    torch.testing.assert_close(module(x), 0.5 * (torch.tanh(x.flatten(1) @ w1.T + b1) @ w2.T + b2))
    assert module.hparams["net"] == NET


def test_weights_follow_the_seed_and_nothing_else() -> None:
    weights = []
    for seed, drawn in ((0, 0), (0, 3), (1, 0)):
        L.seed_everything(seed, verbose=False)
        torch.rand(drawn)
        module: Any = Classifier(NET, **SIZES)
        weights.append(module.net.body[2].weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_it_trains_validates_predicts_and_reloads_alone(tmp_path: Any) -> None:
    module = Classifier(NET, Recipe({"name": "adamw", "lr": 0.01}, batch=64))
    trainer = make_trainer(max_epochs=5)
    trainer.fit(module, datamodule=Digits())
    assert trainer.callback_metrics["val/accuracy"] > 0.8
    predictions = trainer.predict(module, DataLoader(torch.randn(3, 1, 8, 8), batch_size=3))
    trainer.save_checkpoint(tmp_path / "net.ckpt")
    again = Classifier.load_from_checkpoint(tmp_path / "net.ckpt", weights_only=True)
    assert again.hparams["net"] == NET
    x = torch.randn(5, 1, 8, 8)
    assert torch.equal(again.eval()(x), module.eval()(x))
    assert predictions is not None
    assert predictions[0].shape == (3, 10)


def test_a_regressor_takes_logits_too() -> None:
    last = {"class_path": "torch.nn.Linear", "init_args": {"in_features": 7, "out_features": 1}}
    body = {"class_path": f"{HERE}.two_layers", "init_args": {"inputs": 3, "last": last}}
    module = Regressor(
        {"class_path": f"{HERE}.WithBody", "init_args": {"body": body}}, input_shape=(3,), output_size=1
    )
    assert module(torch.randn(4, 3)).shape == (4, 1)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"class_path": "torch.nn.Liner"}, r"WithBody\.body: class_path 'torch.nn.Liner'.*did you mean Linear"),
        ({"class_path": "no_such.Body"}, r"WithBody\.body: class_path 'no_such.Body': no module named 'no_such'"),
        ({"class_path": "torch.nn.Linear", "in_features": 3}, r"WithBody\.body: .*put arguments under init_args"),
        ({"class_path": "torch.nn.Linear", "init_args": {"inputs": 3}}, r"WithBody: .*unexpected keyword .*'inputs'"),
    ],
)
def test_a_wrong_part_is_said_in_one_line(part: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        Classifier({"class_path": f"{HERE}.WithBody", "init_args": {"body": part}}, **SIZES)
    assert "\n" not in str(error.value)


def test_a_timm_model_by_its_function() -> None:
    timm = pytest.importorskip("timm", exc_type=ImportError)
    arguments = {"model_name": "resnet10t", "in_chans": 1, "num_classes": 10}
    module: Any = Classifier({"class_path": "timm.create_model", "init_args": arguments}, "adamw")
    trainer = make_trainer(max_epochs=2)
    trainer.fit(module, datamodule=Digits())
    assert trainer.callback_metrics["val/accuracy"] > 0.5
    theirs = timm.create_model(**arguments)
    theirs.load_state_dict(module.net.state_dict())
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(module.eval()(x), theirs.eval()(x))


def test_a_transformers_image_classifier_with_its_config() -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"image_size": 8, "patch_size": 4, "num_channels": 1, "num_labels": 10, "initializer_range": 0.1}
    widths = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config: dict[str, Any] = {**sizes, **widths}
    net = {
        "class_path": "transformers.ViTForImageClassification",
        "init_args": {"config": {"class_path": "transformers.ViTConfig", "init_args": config}},
    }
    module: Any = Classifier(net, Recipe({"name": "adamw", "lr": 0.003}, batch=64))
    trainer = make_trainer(max_epochs=4)
    trainer.fit(module, datamodule=Digits())
    assert trainer.callback_metrics["val/accuracy"] > 0.7
    theirs = transformers.ViTForImageClassification(transformers.ViTConfig(**config))
    theirs.load_state_dict(module.net.state_dict())
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(module.eval()(x), theirs.eval()(x).logits)


class Tokens(L.LightningDataModule):
    """Series of twelve token numbers; the class is whether token 7 is among them."""

    input_shape, output_size = (12,), 2

    def __init__(self) -> None:
        super().__init__()
        tokens = torch.randint(0, 20, (512, 12), generator=torch.Generator().manual_seed(0))
        self.set = TensorDataset(tokens, (tokens == 7).any(1).long())

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.set, batch_size=64, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.set, batch_size=512)


def test_a_transformers_text_classifier() -> None:
    pytest.importorskip("transformers")
    sizes = {"vocab_size": 20, "max_position_embeddings": 12, "num_labels": 2, "initializer_range": 0.1}
    widths = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    net = {
        "class_path": "transformers.BertForSequenceClassification",
        "init_args": {"config": {"class_path": "transformers.BertConfig", "init_args": {**sizes, **widths}}},
    }
    L.seed_everything(0, verbose=False)
    module = Classifier(net, Recipe({"name": "adamw", "lr": 0.005}))
    trainer = make_trainer(max_epochs=12)
    trainer.fit(module, datamodule=Tokens())
    # 54 in a hundred have no token 7.
    assert trainer.callback_metrics["val/accuracy"] > 0.9
