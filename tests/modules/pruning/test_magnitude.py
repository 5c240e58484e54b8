"""Magnitude pruning, one-shot and gradual: who goes, and when, against NumPy and the closed form."""

from __future__ import annotations

import itertools

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pruning_runs import Deep, copy_of, pruning_of, train
from torch import nn
from users_project import UsersData, UsersModule, make_trainer

from trainoff.errors import UserError
from trainoff.modules import Recipe
from trainoff.modules.pruning import Gradual, Magnitude
from trainoff.modules.pruning.criteria import keep_highest
from trainoff.modules.pruning.gradual import CubicSchedule, cubic_sparsity
from trainoff.modules.pruning.prunable_weights import prunable_weights

WEIGHTS = ("net.0.weight", "net.2.weight", "net.4.weight")


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    sparsity=st.floats(0, 0.99),
    seed=st.integers(0, 99),
    scope=st.sampled_from(["local", "global"]),
)
@settings(deadline=None, max_examples=60)
def test_who_is_kept_is_what_a_sort_says(sizes, sparsity, seed, scope):
    generator = np.random.default_rng(seed)
    scores = [generator.random(size).round(1) for size in sizes]  # ties among them
    masks = keep_highest({str(i): torch.tensor(score) for i, score in enumerate(scores)}, sparsity, scope)
    groups = [[i] for i in range(len(sizes))] if scope == "local" else [list(range(len(sizes)))]
    for group in groups:
        together = np.concatenate([scores[i] for i in group])
        kept = np.concatenate([masks[str(i)].numpy() for i in group])
        expected = np.ones(together.size, bool)
        expected[np.argsort(together, kind="stable")[: round(sparsity * together.size)]] = False
        np.testing.assert_array_equal(kept, expected)


def test_one_shot_prunes_the_smallest_at_its_time_and_trains_the_others_on():
    """At a half of 24 steps: those that stand after the validation that follows step 12."""
    for scope in ("local", "global"):
        module, pruning, watch, _ = train({"name": "magnitude", "sparsity": 0.6, "scope": scope, "at": 0.5})
        before, after = watch.begun[12], watch.begun[13]
        assert all((weight != 0).all() for weight in before.values())
        sizes = {name: np.abs(before[name].numpy()).ravel() for name in WEIGHTS}
        together = np.sort(np.concatenate(list(sizes.values())))
        for name in WEIGHTS:
            among = np.sort(sizes[name]) if scope == "local" else together
            threshold = among[round(0.6 * among.size)]
            np.testing.assert_array_equal(after[name].numpy().ravel() != 0, sizes[name] >= threshold)
            np.testing.assert_array_equal(pruning.masks[name].numpy(), after[name].numpy() != 0)
        assert pruning.is_done
        end = copy_of(module)
        assert all(((end[name] != 0) == pruning.masks[name]).all() for name in WEIGHTS)
        assert all((end[name] != before[name]).any() for name in end)
        assert set(pruning.masks) == set(WEIGHTS)
        assert pruning.pruned == sum(int((end[name] == 0).sum()) for name in WEIGHTS)


def test_the_validation_before_the_pruning_sees_dense_weights():
    _, pruning, watch, _ = train({"name": "magnitude", "at": 0.5})
    shares = [float((seen["net.2.weight"] == 0).float().mean()) for seen in watch.validated]
    assert shares[:2] == [0, 0]
    assert shares[2] == shares[3] == float((~pruning.masks["net.2.weight"]).float().mean())


def test_structured_pruning_takes_whole_hidden_units_with_their_bias():
    for scope in ("local", "global"):
        module, pruning, watch, _ = train(
            {"name": "magnitude", "sparsity": 0.5, "scope": scope, "structured": True, "at": 0.5}
        )
        before, end = watch.begun[12], copy_of(module)
        norms = {n: np.linalg.norm(before[n].numpy().astype(float), axis=1) for n in WEIGHTS[:2]}
        norms = {n: norm / norm.mean() for n, norm in norms.items()}
        together = np.sort(np.concatenate(list(norms.values())))
        for name in WEIGHTS[:2]:
            among = np.sort(norms[name]) if scope == "local" else together
            kept = norms[name] >= among[among.size // 2]
            units = (end[name] != 0).all(1).numpy()
            np.testing.assert_array_equal(units, kept)
            np.testing.assert_array_equal((end[name] == 0).all(1).numpy(), ~kept)
            np.testing.assert_array_equal((end[name.replace("weight", "bias")] == 0).numpy(), ~kept)
        assert (end["net.4.weight"] != 0).all()
        assert set(pruning.masks) == {"net.0.weight", "net.0.bias", "net.2.weight", "net.2.bias"}


def test_a_layer_keeps_one_unit_at_least():
    module = train({"name": "magnitude", "sparsity": 0.99, "structured": True, "at": 0.0})[0]
    for name in WEIGHTS[:2]:
        assert int((copy_of(module)[name] != 0).any(1).sum()) == 1


def test_a_pruned_unit_of_a_transposed_convolution_is_an_output_channel():
    class Upsampler(UsersModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(
                nn.Unflatten(1, (6, 1)), nn.ConvTranspose1d(6, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3)
            )

    module = train({"name": "magnitude", "structured": True, "at": 0.0}, module=Upsampler())[0]
    weight = copy_of(module)["net.1.weight"]
    assert weight.shape == (6, 8, 3)
    assert int((weight == 0).all(dim=2).all(dim=0).sum()) == 4
    assert int((copy_of(module)["net.1.bias"] == 0).sum()) == 4


def test_norms_biases_embeddings_frozen_and_excluded_weights_are_no_candidates():
    module = nn.Sequential(
        nn.Embedding(5, 4), nn.Linear(4, 4), nn.LayerNorm((2, 4)), nn.Linear(4, 3), nn.Linear(3, 2), nn.BatchNorm1d(2)
    )
    module[3].weight.requires_grad_(False)
    assert list(prunable_weights(module)) == ["1.weight", "4.weight"]
    assert list(prunable_weights(module, ["4.*"])) == ["1.weight"]


@given(
    final=st.floats(0.1, 0.99),
    initial=st.floats(0, 0.1),
    start=st.floats(0, 0.4),
    length=st.floats(0.1, 0.5),
    updates=st.integers(1, 40),
    total=st.integers(1, 400),
)
@settings(deadline=None, max_examples=60)
def test_the_cubic_schedule_is_its_closed_form(final, initial, start, length, updates, total):
    """s_t = s_f + (s_i − s_f)(1 − (t − t₀)/(nΔt))³ at t₀ + iΔt, equation 1 of the paper."""
    schedule = CubicSchedule(final, initial, start, start + length, updates)
    due = [schedule.due(step, total) for step in range(total)]
    assert due == sorted(due)
    for number in range(1, updates + 2):
        expected = final + (initial - final) * (1 - (number - 1) / updates) ** 3
        assert schedule.at(number) == pytest.approx(expected, abs=1e-12)
    first, last = int(start * total), int((start + length) * total)
    for step, count in enumerate(due):
        if step < first:
            assert count == 0
        elif step >= last:
            assert count == updates + 1
        else:
            progress = (step - first) / (last - first)
            assert (count - 1) / updates <= progress < count / updates
    assert cubic_sparsity(final, initial, 1) == final


def test_gradual_pruning_follows_the_schedule_and_takes_nothing_back():
    choice = {"name": "gradual", "sparsity": 0.8, "initial": 0.2, "start": 0.25, "end": 0.75, "updates": 12}
    module, pruning, watch, _ = train(choice)
    sparsity = [np.mean([float((w[name] == 0).float().mean()) for name in WEIGHTS[:2]]) for w in watch.begun]
    for step in range(24):
        number = min(step - 1, 18) - 6  # the masks that a step sees are those that the one before was begun with
        expected = 0.0 if number < 0 else 0.8 - 0.6 * (1 - number / 12) ** 3
        assert sparsity[step] == pytest.approx(expected, abs=0.011), step
    for before, after in itertools.pairwise(watch.begun):
        assert all((after[name][before[name] == 0] == 0).all() for name in WEIGHTS)
    assert pruning.is_done
    assert pruning.spliced == 0
    assert float((copy_of(module)["net.2.weight"] == 0).float().mean()) == pytest.approx(0.8, abs=0.003)


def test_it_works_in_anyones_trainer():
    L.seed_everything(1, verbose=False)
    module, pruning = UsersModule(), Magnitude(0.7, scope="local", at=0.0)
    make_trainer(max_epochs=2, callbacks=[pruning]).fit(module, datamodule=UsersData())
    for index in (0, 2):
        weight = module.net[index].weight
        assert int((weight == 0).sum()) == round(0.7 * weight.numel())
    UsersModule().load_state_dict(module.state_dict())  # the names are those of a plain module


@pytest.mark.parametrize(
    ("choice", "part"),
    [
        ({"name": "magnitude", "sparsity": 1.0}, r"pruning.sparsity: a share lies in \[0, 1\), not 1.0"),
        ({"name": "magnitude", "sparsity": -0.1}, r"pruning.sparsity: a share lies in \[0, 1\), not -0.1"),
        ({"name": "magnitude", "at": 1.0}, "pruning.at: a share lies"),
        ({"name": "magnitude", "scope": "layer"}, "pruning.scope: weights are ranked in each layer"),
        ({"name": "magnitude", "sparsty": 0.5}, "pruning.sparsty: takes no 'sparsty'; did you mean sparsity"),
        ({"name": "gradual", "start": 0.7, "end": 0.5}, "pruning.end: pruning ends at 0.5 of the training"),
        ({"name": "gradual", "initial": 0.9}, "pruning.initial: sparsity grows from 0.9 to 0.8"),
        ({"name": "gradual", "updates": 0}, "pruning.updates: sparsity grows at least once"),
        ("magnitud", "pruning: no pruning method is called 'magnitud'; did you mean magnitude"),
    ],
)
def test_what_a_recipe_refuses(choice, part):
    with pytest.raises(UserError, match=part) as caught:
        Recipe(pruning=choice).validate()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("strategy", ["fsdp", "deepspeed", "model_parallel"])
def test_sharded_parameters_are_refused_at_the_start(strategy):
    with pytest.raises(UserError, match=f"pruning: {strategy} shards the parameters, and 'gradual' needs them whole"):
        Recipe(pruning="gradual", strategy=strategy).validate()


def test_a_training_without_an_end_has_no_shares():
    module = Recipe("sgd", pruning="gradual").apply(Deep())
    with pytest.raises(UserError, match="give the Trainer max_epochs or max_steps"):
        make_trainer(max_epochs=-1).fit(module, datamodule=UsersData())


def test_a_net_with_nothing_to_prune_is_refused():
    class Single(UsersModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(6, 3)

    module = Recipe("sgd", pruning={"name": "magnitude", "structured": True}).apply(Single())
    with pytest.raises(UserError, match="Single has no hidden layer whose units could be pruned"):
        make_trainer().fit(module, datamodule=UsersData())
    module = Recipe("sgd", pruning={"name": "gradual", "exclude": ["net*"]}).apply(Single())
    with pytest.raises(UserError, match="Single has no weight that could be pruned"):
        make_trainer().fit(module, datamodule=UsersData())


def test_the_recipe_says_the_same_in_every_form():
    recipe = Recipe("adamw", pruning="magnitude")
    assert recipe == Recipe.of("adamw-magnitude") == Recipe.of(recipe.to_dict())
    assert recipe.name == "adamw-magnitude"
    assert recipe.to_dict()["pruning"] == {"name": "magnitude"}
    assert "pruning" not in Recipe("adamw").to_dict()
    assert isinstance(pruning_of(recipe.apply(Deep())), Magnitude)
    assert isinstance(pruning_of(Recipe(pruning="gradual").apply(Deep())), Gradual)
