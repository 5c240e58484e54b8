"""What cannot go together is refused before the first step, in one line that names both."""

from __future__ import annotations

import pytest
from lightning.pytorch.plugins.precision import MixedPrecision
from users_project import UsersData, UsersModule, make_trainer

from trainoff.datamodules import Diabetes
from trainoff.errors import UserError
from trainoff.modules import OPTIMIZERS, Recipe, Regressor

CLOSURES = [entry.name for entry in OPTIMIZERS if "closure" in entry.needs and not entry.unsupported]


def one_line(caught):
    return "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("regularizers", "message"),
    [
        (["ema", "swa"], "ema and swa would both put their average in the weights' place; keep one"),
        (["ema", {"name": "ema", "decay": 0.9}], "ema and ema would both put"),
        (["mixup", "cutmix"], "mixup and cutmix would both mix each batch; keep one"),
        (["sam", "lookahead"], "sam and lookahead would both wrap the optimizer; keep one"),
        ([{"name": "weight_decay", "coefficient": 0.1}], "weight decay is given twice"),
    ],
)
def test_two_that_do_the_same_are_refused(regularizers, message):
    optimizer = {"name": "adamw", "weight_decay": 0.1} if "twice" in message else "sgd"
    recipe = Recipe(optimizer, regularizers=regularizers)
    with pytest.raises(UserError, match=message) as caught:
        make_trainer().fit(recipe.apply(UsersModule()), datamodule=UsersData())
    assert one_line(caught)


@pytest.mark.parametrize("given", ["recipe", "trainer"])
def test_two_clippers_are_refused(given):
    second = [{"name": "gradient_clip", "maximum": 2.0}] if given == "recipe" else []
    recipe = Recipe("sgd", regularizers=["gradient_clip", *second])
    trainer = make_trainer(gradient_clip_val=1.0 if given == "trainer" else None)
    with pytest.raises(UserError, match="keep one of the two") as caught:
        trainer.fit(recipe.apply(UsersModule()), datamodule=UsersData())
    assert one_line(caught)


def scaled_trainer():
    """Under a gradient scaler, which Lightning offers on accelerators only unless it is given one."""
    return make_trainer(plugins=[MixedPrecision("16-mixed", "cpu")])


@pytest.mark.parametrize("name", CLOSURES)
def test_what_evaluates_several_times_is_refused_under_a_gradient_scaler(name):
    trainer = scaled_trainer()
    with pytest.raises(UserError, match=f"'{name}' .* cannot run under a gradient scaler; use bf16-mixed") as caught:
        trainer.fit(Recipe(name).apply(UsersModule()), datamodule=UsersData())
    assert one_line(caught)
    assert trainer.global_step == 0


def test_sam_as_a_regularizer_is_refused_under_a_gradient_scaler():
    recipe = Recipe("sgd", regularizers=["sam"])
    with pytest.raises(UserError, match=r"'sam' .* cannot run under a gradient scaler"):
        scaled_trainer().fit(recipe.apply(UsersModule()), datamodule=UsersData())


@pytest.mark.parametrize("name", ["label_smoothing", "confidence_penalty", "distillation"])
def test_what_needs_classes_is_refused_on_a_regression(name):
    choice = {"name": name} | ({"teacher": "some.ckpt"} if name == "distillation" else {})
    module = Regressor("linear", Recipe("sgd", regularizers=[choice]))
    with pytest.raises(UserError, match=rf"{name}: Regressor has no nn\.CrossEntropyLoss") as caught:
        make_trainer().fit(module, datamodule=Diabetes())
    assert one_line(caught)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_class_numbers_are_not_mixed_where_the_loss_takes_no_shares(name):
    """On a DataModule that does not say it is a regression; one that does has its numbers mixed."""
    module = Regressor("linear", Recipe("sgd", regularizers=[name]), input_shape=(6,), output_size=1)
    with pytest.raises(UserError, match=rf"{name}: Regressor has no nn\.CrossEntropyLoss, which takes shares"):
        make_trainer().fit(module, datamodule=UsersData())
