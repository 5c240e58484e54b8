"""Alterations: their laws, and that they change what they say and nothing else."""

from __future__ import annotations

import pickle
from typing import ClassVar

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from users_project import make_trainer

from trainoff.datamodules import Altered, Digits, InMemoryDataModule
from trainoff.datamodules.alterations import FewerSamples, Imbalance, LabelNoise, PermuteInputs, PermuteLabels
from trainoff.datamodules.facts.entry import DataModuleEntry
from trainoff.errors import UserError
from trainoff.modules import Classifier, Recipe

counts = st.lists(st.integers(1, 40), min_size=2, max_size=6)
seeds = st.integers(0, 2**32)


def splits_of(sizes, shape=(3,)):
    """Every split with the numbers of its samples as inputs."""
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]
    places = torch.Size(shape).numel()
    return {
        name: (torch.arange(len(labels) * places).reshape(-1, *shape).float() + 1000 * part, labels.clone())
        for part, name in enumerate(("train", "val", "test"))
    }


def assert_others_are_equal(before, after, *but):
    for name in {"train", "val", "test"} - set(but):
        for first, second in zip(before[name], after[name], strict=True):
            assert torch.equal(first, second)


def rows(inputs):
    return {tuple(row) for row in inputs.flatten(1).tolist()}


@settings(deadline=None)
@given(sizes=counts, fraction=st.floats(0, 1), seed=seeds)
def test_pair_noise_takes_exactly_that_share_to_the_next_class(sizes, fraction, seed):
    before = splits_of(sizes)
    after = LabelNoise(fraction, "pair", seed).apply(before, len(sizes))
    old, new = before["train"][1], after["train"][1]
    changed = old != new
    assert int(changed.sum()) == round(fraction * len(old))
    assert torch.equal(new[changed], (old[changed] + 1) % len(sizes))
    assert torch.equal(before["train"][0], after["train"][0])
    assert_others_are_equal(before, after, "train")


@settings(deadline=None)
@given(sizes=counts, fraction=st.floats(0, 1), seed=seeds)
def test_symmetric_noise_takes_exactly_that_share_to_another_class(sizes, fraction, seed):
    before = splits_of(sizes)
    after = LabelNoise(fraction, seed=seed).apply(before, len(sizes))
    assert int((before["train"][1] != after["train"][1]).sum()) == round(fraction * sum(sizes))
    assert int(after["train"][1].max()) < len(sizes)
    assert_others_are_equal(before, after, "train")


def test_symmetric_noise_is_the_argument_of_the_same_name():
    altered = Altered("digits", [{"name": "label_noise", "fraction": 0.3}])
    assert altered.digest() == Digits(label_noise=0.3).digest()


@settings(deadline=None)
@given(size=st.integers(1, 200), classes=st.integers(2, 8), ratio=st.floats(1, 100), seed=seeds)
def test_a_long_tail_has_the_counts_of_the_formula(size, classes, ratio, seed):
    before = splits_of([size] * classes)
    after = Imbalance(ratio, seed).apply(before, classes)
    expected = [max(1, round(size * ratio ** (-i / (classes - 1)))) for i in range(classes)]
    assert torch.bincount(after["train"][1], minlength=classes).tolist() == expected
    kept = dict(zip(map(tuple, before["train"][0].tolist()), before["train"][1].tolist(), strict=True))
    for row, label in zip(after["train"][0].tolist(), after["train"][1].tolist(), strict=True):
        assert kept[tuple(row)] == label
    assert_others_are_equal(before, after, "train")


def test_a_long_tail_of_unequal_classes_keeps_the_formulas_shape():
    """The second of two classes bounds the first: n · 10^(−1) = 5 where there are 5 of it, though 80 of the other."""
    after = Imbalance(10).apply(splits_of([80, 5]), 2)
    assert torch.bincount(after["train"][1]).tolist() == [50, 5]
    with pytest.raises(UserError, match="imbalance: class 1 has no training sample"):
        Imbalance(10).apply(splits_of([8, 0]), 2)


@settings(deadline=None)
@given(sizes=counts, seed=seeds, data=st.data())
def test_fewer_samples_are_a_subset_of_more(sizes, seed, data):
    more = data.draw(st.integers(1, sum(sizes)))
    fewer = data.draw(st.integers(1, more))
    before = splits_of(sizes)
    small, large = (FewerSamples(n, seed).apply(before, len(sizes)) for n in (fewer, more))
    assert len(small["train"][1]) == fewer
    assert rows(small["train"][0]) <= rows(large["train"][0]) <= rows(before["train"][0])
    assert_others_are_equal(before, large, "train")


@settings(deadline=None)
@given(sizes=counts, seed=seeds)
def test_permuted_labels_keep_each_class_number(sizes, seed):
    before = splits_of(sizes)
    after = PermuteLabels(seed).apply(before, len(sizes))
    assert torch.bincount(after["train"][1]).tolist() == sizes
    assert torch.equal(before["train"][0], after["train"][0])
    assert_others_are_equal(before, after, "train")


def test_permuted_labels_say_nothing_of_the_inputs():
    """Each label is right by chance alone: a tenth of ten thousand, give or take four deviations."""
    before = splits_of([1000] * 10)
    agree = int((before["train"][1] == PermuteLabels().apply(before, 10)["train"][1]).sum())
    assert abs(agree - 1000) < 4 * 30


@settings(deadline=None)
@given(shape=st.sampled_from([(5,), (1, 3, 4), (3, 2, 5), (4, 6)]), seed=seeds)
def test_permuted_inputs_are_one_bijection_of_places_in_all_splits(shape, seed):
    before = splits_of([3, 2], shape)
    after = PermuteInputs(seed).apply(before, 2)
    orders = set()
    for name, (inputs, targets) in after.items():
        assert torch.equal(targets, before[name][1])
        old = before[name][0].reshape(5, -1, shape[1] * shape[2] if len(shape) == 3 else inputs[0].numel())
        new = inputs.reshape(old.shape)
        assert torch.equal(old.sort(-1).values, new.sort(-1).values)  # channels of images stay apart
        for sample in range(5):
            for channel in range(old.shape[1]):
                places = [old[sample, channel].tolist().index(value) for value in new[sample, channel].tolist()]
                orders.add(tuple(places))
    assert len(orders) == 1


def test_alterations_come_one_after_the_other_and_the_digest_follows():
    chain = [
        {"name": "fewer_samples", "samples": 200},
        {"name": "label_noise", "fraction": 0.5, "kind": "pair"},
        "permute_inputs",
    ]
    data = Altered("digits", chain)
    expected = Digits()
    splits = {name: expected.split(name) for name in ("train", "val", "test")}
    for step in (FewerSamples(200), LabelNoise(0.5, "pair"), PermuteInputs()):
        splits = step.apply(splits, 10)
    for name, tensors in splits.items():
        for first, second in zip(data.split(name), tensors, strict=True):
            assert torch.equal(first, second)
    digests = {Altered("digits", chain[:count]).digest() for count in range(4)}
    assert len(digests) == 4
    assert Digits().digest() in digests


def test_the_alterations_never_change():
    chain = [
        {"name": "label_noise", "fraction": 0.4, "kind": "pair"},
        {"name": "imbalance", "ratio": 10},
        {"name": "fewer_samples", "samples": 100},
        "permute_labels",
        {"name": "permute_inputs", "seed": 1},
    ]
    assert Altered("digits", chain).digest()[:16] == "158435ed57ff083d"


class Augmented(InMemoryDataModule):
    """A set that changes its batches on the device."""

    facts: ClassVar[DataModuleEntry] = DataModuleEntry("augmented", "", input_shape=(3,), num_classes=2)

    def load_splits(self):
        return splits_of([20, 20])

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch[0] * 0 + 7, batch[1]


def test_the_wrapped_datamodules_own_hooks_act():
    seen = []

    class Watching(Classifier):
        def training_step(self, batch, batch_idx):
            seen.append(batch[0])
            return super().training_step(batch, batch_idx)

    data = Altered({"class_path": f"{__name__}.Augmented"}, ["permute_labels"])
    make_trainer().fit(Watching("linear", Recipe("sgd", batch=10)), datamodule=data)
    assert {len(batch) for batch in seen} == {10}  # the recipe's batch reaches the wrapped DataModule
    assert set(torch.cat(seen).flatten().tolist()) == {7.0}


def test_it_is_the_wrapped_datamodule_in_all_else(tmp_path):
    data = Altered("digits", ["permute_labels"], train_eval_samples=50, batch_size=10)
    assert (data.input_shape, data.num_classes, data.output_size) == ((1, 8, 8), 10, 10)
    assert data.licence == Digits().licence
    first, second = (list(data.train_eval_dataloader()) for _ in range(2))
    assert [len(targets) for _, targets in first] == [50]
    assert torch.equal(first[0][0], second[0][0])
    assert torch.equal(first[0][1], data.split("train")[1][:50])
    assert pickle.loads(pickle.dumps(data)).digest() == data.digest()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        data.nothing  # noqa: B018

    L.seed_everything(0, verbose=False)
    trainer = make_trainer()
    module = Classifier("linear", Recipe("sgd"))
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    back = Altered.load_from_checkpoint(tmp_path / "one.ckpt", weights_only=True)
    assert back.digest() == data.digest()
    assert back.data.train_eval_samples == 50


def test_a_net_memorises_permuted_labels_and_learns_nothing():
    """Zhang et al.: training accuracy near 1, test accuracy near chance."""
    L.seed_everything(0, verbose=False)
    data = Altered({"name": "digits", "train_samples": 200}, ["permute_labels"])
    module = Classifier({"name": "mlp", "hidden": [128]}, Recipe({"name": "adam", "lr": 3e-3}, batch=50))
    trainer = make_trainer(max_epochs=60)
    trainer.fit(module, datamodule=data)
    trainer.validate(module, dataloaders=data.train_eval_dataloader(), verbose=False)
    assert trainer.callback_metrics["val/accuracy"] > 0.95
    trainer.test(module, datamodule=data, verbose=False)
    assert trainer.callback_metrics["test/accuracy"] < 0.25


@pytest.mark.parametrize(
    ("data", "alterations", "message"),
    [
        ("digitss", [], "no datamodule is called 'digitss'; did you mean digits"),
        ("digits", ["label_nois"], "no alteration is called 'label_nois'; did you mean label_noise"),
        ("digits", [{"name": "label_noise"}], "alterations.0: label_noise: missing a required argument: 'fraction'"),
        (
            "digits",
            [{"name": "label_noise", "fracton": 1}],
            "alterations.0: label_noise takes no 'fracton'; did you mean fraction",
        ),
        ("digits", [{"name": "label_noise", "fraction": 2}], "label_noise.fraction: 2 is not a share"),
        ("digits", [{"name": "label_noise", "fraction": 0.1, "kind": "odd"}], "'odd' is neither symmetric nor pair"),
        ("digits", [{"name": "imbalance", "ratio": 0.5}], "imbalance.ratio: 0.5 is below 1"),
        ("digits", [{"name": "fewer_samples", "samples": 5000}], "5000 is not from 1 to the 1079 training samples"),
        ("diabetes", [{"name": "label_noise", "fraction": 0.1}], "label_noise: needs one class a sample"),
        ("diabetes", [{"name": "imbalance", "ratio": 2}], "imbalance: needs one class a sample"),
        ("digits", {"name": "permute_inputs"}, "is not a list"),
        ({"name": "altered", "data": "digits"}, [], "Altered does not hold its set in memory"),
    ],
)
def test_mistakes_are_one_line(data, alterations, message):
    with pytest.raises(UserError, match=message) as caught:
        Altered(data, alterations).setup("fit")
    assert "\n" not in str(caught.value)


def test_a_train_eval_part_larger_than_the_split_is_refused():
    with pytest.raises(UserError, match="train_eval_samples: 5000 is not from 1 to the 1079"):
        Altered("digits", train_eval_samples=5000).train_eval_dataloader()


def test_long_tails_are_where_numpy_says():
    data = Altered({"name": "mnist1d", "train_samples": 1000}, [{"name": "imbalance", "ratio": 50}])
    found = np.bincount(data.split("train")[1].numpy())
    assert (np.diff(found) <= 0).all()
    assert found[0] / found[-1] == pytest.approx(50, rel=0.35)  # of 2, which is rounded
