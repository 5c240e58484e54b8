"""The Recipe as plain data: normalised once, equal from every way of saying it, refused with one line."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

from trainoff.errors import UserError
from trainoff.modules import Recipe


def test_three_spellings_of_one_recipe_are_equal():
    from_mapping = Recipe(optimizer={"name": "adamw"}, schedule={"name": "cosine"}, regularizers=[{"name": "l2"}])
    from_names = Recipe(optimizer="adamw", schedule="cosine", regularizers=["l2"])
    assert from_mapping == from_names == Recipe.of("adamw-cosine-l2") == Recipe.of(from_names.to_dict())


def test_plain_data_survives_a_round_trip():
    recipe = Recipe(
        optimizer={"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}},
        batch="full",
        microbatches=3,
        precision="bf16",
        strategy={"name": "ddp", "devices": 2},
        parameters=[{"match": "net.0.*", "freeze": True}],
    )
    assert Recipe(**recipe.to_dict()) == recipe
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    assert recipe.precision == "bf16-mixed"


def test_a_bare_dotted_path_is_a_class_path():
    assert Recipe(optimizer="torch.optim.SGD").optimizer == {"class_path": "torch.optim.SGD", "init_args": {}}


def test_numpys_numbers_are_pythons():
    """As `np.logspace` gives them; equal to the same recipe written by hand, down to the types."""
    given = Recipe(
        {"name": "adamw", "lr": np.logspace(-3, -1, 3)[1], "betas": np.array([0.5, 0.75]), "amsgrad": np.bool_(True)},
        {"name": "step", "every": np.int64(3)},
        [{"name": "l2", "coefficient": np.float32(0.5), "exclude": [np.str_("*.bias")]}],
        batch=np.int64(64),
        microbatches=np.int32(2),
        strategy={"name": "ddp", "devices": np.int64(2)},
        parameters=[{"match": "net.*", "lr_scale": np.float64(0.5), "freeze": np.bool_(False)}],
    )
    by_hand = Recipe(
        {"name": "adamw", "lr": 0.01, "betas": [0.5, 0.75], "amsgrad": True},
        {"name": "step", "every": 3},
        [{"name": "l2", "coefficient": 0.5, "exclude": ["*.bias"]}],
        batch=64,
        microbatches=2,
        strategy={"name": "ddp", "devices": 2},
        parameters=[{"match": "net.*", "lr_scale": 0.5, "freeze": False}],
    )
    assert repr(given) == repr(by_hand)
    assert repr(given.to_dict()) == repr(by_hand.to_dict())
    with pytest.raises(UserError, match="not a finite number"):
        Recipe({"name": "sgd", "lr": np.float64("nan")})
    with pytest.raises(UserError, match="batch"):
        Recipe(batch=np.int64(0))


def test_name_says_what_differs_from_the_defaults():
    assert Recipe.of("sgd-cosine-l2-xavier").name == "sgd-cosine-l2-xavier"
    assert Recipe(batch="full").name == "adamw-batchfull"


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"optimizer": "rmspropp"}, "did you mean rmsprop"),
        ({"optimizer": {"lr": 0.1}}, "has no name"),
        ({"optimizer": {"name": "sgd", "lr": math.nan}}, "not a finite number"),
        ({"optimizer": {"name": "sgd", "lr": -0.1}}, "negative"),
        ({"schedule": "cosin"}, "did you mean cosine"),
        ({"regularizers": "l2"}, "is a list"),
        ({"regularizers": ["l3"]}, "did you mean"),
        ({"batch": 0}, "batch"),
        ({"batch": "whole"}, "full"),
        ({"batch": True}, "batch"),
        ({"batch": 4, "microbatches": 5}, "5 parts of a batch of 4"),
        ({"microbatches": 0}, "microbatches"),
        ({"precision": "fp12"}, "no precision"),
        ({"strategy": "dpp"}, "did you mean ddp"),
        ({"optimizer": {"class_path": "a.B", "lr": 1}}, "init_args"),
    ],
)
def test_mistakes_are_said_in_one_line(fields, part):
    with pytest.raises(UserError, match=part) as caught:
        Recipe(**fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "where", "part"),
    [
        ({"optimizer": {"name": "sgd", "momentm": 0.9}}, "optimizer.momentm", "did you mean momentum"),
        ({"optimizer": {"name": "adam", "lr": "fast"}}, "optimizer.lr", "not a number"),
        ({"schedule": {"name": "cosine", "minimum": 2}}, "schedule", "lies in"),
        ({"schedule": {"name": "cosine", "warmup": -1}}, "schedule.warmup", "neither"),
        ({"schedule": {"name": "step", "interval": "batch"}}, "schedule.interval", "neither"),
        ({"regularizers": [{"name": "l2", "strength": 1}]}, "regularizers[0].strength", "coefficient"),
        ({"regularizers": [{"name": "lp", "p": 0.5}]}, "regularizers[0].p", "at least 1"),
        ({"regularizers": [{"name": "dropout", "p": 1.5}]}, "regularizers[0].p", "lies in"),
        ({"regularizers": [{"name": "gradient_clip", "maximum": 0}]}, "regularizers[0].maximum", "above 0"),
        ({"regularizers": [{"name": "early_stopping", "mode": "up"}]}, "regularizers[0].mode", "'min' or 'max'"),
        ({"regularizers": [{"name": "early_stopping", "patience": -1}]}, "regularizers[0].patience", "at least 0"),
        ({"regularizers": [{"name": "early_stopping", "min_delta": -0.1}]}, "regularizers[0].min_delta", "at least 0"),
        ({"schedule": {"name": "plateau", "mode": "up"}}, "schedule", "mode is 'up'; it is 'min' or 'max'"),
        ({"schedule": {"name": "plateau", "patience": -1}}, "schedule", "patience is -1"),
        ({"schedule": {"name": "plateau", "multiplier": 1.0}}, "schedule", "multiplier is 1.0"),
        ({"parameters": [{"match": "*", "lr_scale": -1}]}, "parameters[0].lr_scale", "not a number from 0"),
        ({"parameters": [{"match": "*", "weight_decay": -0.1}]}, "parameters[0].weight_decay", "not a number from 0"),
        ({"optimizer": "sparseadam"}, "optimizer", "sparse gradients"),
        ({"optimizer": {"class_path": "torch.optim.SDG"}}, "", "did you mean SGD"),
        ({"optimizer": {"class_path": "no_such_package.X"}}, "", "no module named"),
    ],
)
def test_arguments_are_checked_against_signatures(fields, where, part):
    with pytest.raises(UserError, match=part) as caught:
        Recipe(**fields).validate()
    assert caught.value.where == where
    assert "\n" not in str(caught.value)


def test_an_unknown_field_or_part_of_a_name_is_refused():
    with pytest.raises(UserError, match="did you mean optimizer"):
        Recipe.of({"optimiser": "sgd"})
    with pytest.raises(UserError, match="did you mean cosine"):
        Recipe.of("adamw-cosin")


def test_trainer_arguments_hold_what_only_a_trainer_can():
    assert Recipe().trainer_arguments() == {}
    recipe = Recipe(precision="bf16-mixed", microbatches=4, strategy={"name": "ddp", "devices": 2, "nodes": 3})
    assert recipe.trainer_arguments() == {
        "precision": "bf16-mixed",
        "accumulate_grad_batches": 4,
        "devices": 2,
        "num_nodes": 3,
        "strategy": "ddp",
    }


def test_strategy_options_build_lightnings_class():
    strategy = Recipe(strategy={"name": "ddp", "process_group_backend": "gloo"}).trainer_arguments()["strategy"]
    assert type(strategy).__name__ == "DDPStrategy"
    assert strategy.process_group_backend == "gloo"
