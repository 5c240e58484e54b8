from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
import torch
from sklearn import datasets
from sklearn.preprocessing import StandardScaler

from trainoff.datamodules import MNIST1D, BreastCancer, Diabetes, Digits, Iris, RawData, TensorDataModule, Wine
from trainoff.datamodules.facts.entry import DataModuleEntry
from trainoff.errors import UserError

SHIPPED = [Digits, BreastCancer, Wine, Diabetes, MNIST1D, Iris]


def whole(data: TensorDataModule) -> tuple[torch.Tensor, torch.Tensor]:
    splits = [data.split(name) for name in ("train", "val", "test")]
    return torch.cat([inputs for inputs, _ in splits]), torch.cat([targets for _, targets in splits])


@pytest.mark.parametrize(
    ("data_class", "count", "sizes", "shape", "outputs"),
    [
        (Digits, 1797, (1079, 359, 359), (1, 8, 8), 10),
        (BreastCancer, 569, (341, 114, 114), (30,), 2),
        (Wine, 178, (106, 36, 36), (13,), 3),
        (Diabetes, 442, (266, 88, 88), (10,), 1),
        (Iris, 150, (90, 30, 30), (4,), 3),
        (MNIST1D, 5000, (3200, 800, 1000), (40,), 10),
    ],
)
def test_published_counts_shapes_and_types(data_class, count, sizes, shape, outputs):
    data = data_class()
    assert data.input_shape == shape  # before setup
    assert data.output_size == outputs
    assert (data.task == "regression") == (data.num_classes is None) == (data_class is Diabetes)
    assert data.licence
    assert data.citation
    assert data.size_bytes > 0
    inputs, targets = whole(data)
    assert inputs.shape == (count, *shape)
    assert data.facts.num_samples == count
    assert inputs.dtype == torch.float32
    assert tuple(len(data.split(name)[1]) for name in ("train", "val", "test")) == sizes
    if data.num_classes is None:
        assert targets.shape == (count, 1)
        assert targets.dtype == torch.float32
    else:
        assert targets.shape == (count,)
        assert targets.dtype == torch.int64
        assert targets.unique().tolist() == list(range(data.num_classes))


@pytest.mark.parametrize("data_class", SHIPPED)
def test_train_statistics_standardise_all_splits(data_class):
    data = data_class()
    train = data.split("train")[0].double()
    over = 0 if data.per_feature else None
    np.testing.assert_allclose(train.numpy().mean(over), 0, atol=1e-6)
    np.testing.assert_allclose(train.numpy().std(over), 1, atol=1e-6)
    assert abs(data.split("val")[0].double().mean(0)).max() > 1e-4  # the others had no part in it


def rows(table: np.ndarray, targets: np.ndarray) -> set[bytes]:
    joined = np.column_stack([table.reshape(len(table), -1), targets])
    return sorted(row.tobytes() for row in np.round(joined, 3) + 0.0)


@pytest.mark.parametrize(
    ("data_class", "load"),
    [(BreastCancer, datasets.load_breast_cancer), (Wine, datasets.load_wine)],
)
def test_the_samples_are_those_of_scikit_learn_scaled_by_its_own_scaler(data_class, load):
    data = data_class()
    inputs, targets = whole(data)
    table, labels = load(return_X_y=True)
    assert np.array_equal(np.bincount(targets), np.bincount(labels))
    # the training rows, found again by undoing the scaling
    train = data.split("train")[0].double().numpy() * data.input_statistics.std + data.input_statistics.mean
    places = [int(np.abs(table / table.std(0) - row / table.std(0)).sum(1).argmin()) for row in train]
    assert len(set(places)) == len(train)
    scaler = StandardScaler().fit(table[places])
    np.testing.assert_allclose(data.split("train")[0].numpy(), scaler.transform(table[places]), atol=1e-5)
    assert data.split("train")[1].tolist() == labels[places].tolist()
    assert rows(inputs.numpy(), targets.numpy()) == rows(scaler.transform(table).astype(np.float32), labels)


def test_diabetes_has_raw_features_and_a_standardised_target():
    data = Diabetes()
    raw, progression = datasets.load_diabetes(return_X_y=True, scaled=False)
    inputs, targets = whole(data)
    train = data.split("train")[1].double().numpy()
    assert abs(train.mean()) < 1e-6
    assert abs(train.std() - 1) < 1e-6
    back = targets.double().numpy() * data.target_statistics.std + data.target_statistics.mean
    np.testing.assert_allclose(np.sort(back[:, 0]), np.sort(progression), rtol=1e-5)
    ages = inputs[:, 0].double().numpy() * data.input_statistics.std[0] + data.input_statistics.mean[0]
    np.testing.assert_allclose(np.sort(ages), np.sort(raw[:, 0]), rtol=1e-4)


DIGESTS = {
    "Digits": "505542994cdbb68c",
    "BreastCancer": "2380ba9325b81f68",
    "Wine": "5e96104e6598ec74",
    "Diabetes": "162cddbb893e17c3",
    "Iris": "6bcb794011031cc0",
}


@pytest.mark.parametrize("data_class", [Digits, BreastCancer, Wine, Diabetes, Iris])
def test_the_splits_never_change(data_class):
    torch.manual_seed(random.randrange(1000))  # the global seed has no part in them
    assert data_class().digest()[:16] == DIGESTS[data_class.__name__]


def test_the_digest_follows_the_split_the_noise_and_the_sizes():
    variants = [{}, {"split_seed": 1}, {"label_noise": 0.1}, {"train_samples": 100}, {"val_fraction": 0.1}]
    assert len({Digits(**variant).digest() for variant in variants}) == len(variants)
    assert Digits(batch_size=7).digest() == Digits().digest()


def test_mnist1d_is_the_packages_own_and_leaves_global_random_state():
    from mnist1d.data import make_dataset

    from trainoff.datamodules.mnist1d import _generate

    _generate.cache_clear()
    random.seed(1)
    np.random.seed(1)
    states = random.getstate(), np.random.get_state()[1].tolist()
    data = MNIST1D()
    data.setup("fit")
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    direct = make_dataset()
    test = direct["x_test"]
    np.testing.assert_allclose(
        data.split("test")[0].double().numpy() * float(data.input_statistics.std) + float(data.input_statistics.mean),
        test,
        atol=1e-6,
    )
    assert data.split("test")[1].tolist() == direct["y_test"].tolist()
    assert _generate() is _generate()


def test_the_cached_generation_is_not_shared_with_the_tensors():
    data = MNIST1D()
    data.split("test")[1].fill_(0)
    data.split("test")[0].fill_(0)
    assert MNIST1D().split("test")[1].unique().tolist() == list(range(10))


def test_label_noise_touches_training_labels_only():
    clean, noisy = Digits(), Digits(label_noise=0.3)
    assert (clean.split("train")[1] != noisy.split("train")[1]).sum() == round(0.3 * 1079)
    for name in ("val", "test"):
        assert torch.equal(clean.split(name)[1], noisy.split(name)[1])
    assert torch.equal(clean.split("train")[0], noisy.split("train")[0])
    seen = torch.cat([targets for _, targets in noisy.train_eval_dataloader()])
    assert torch.equal(seen, noisy.split("train")[1][:359])
    with pytest.raises(UserError, match="label_noise: 'diabetes' is a regression"):
        Diabetes(label_noise=0.1)


def test_loaders_have_the_sizes_they_promise():
    data = Digits(batch_size=100)
    data.setup("fit")
    data.batch_size, data.microbatches = 64, 2  # as a Recipe does
    train = [len(targets) for _, targets in data.train_dataloader()]
    assert train == [32] * 32 + [28, 27]
    assert len(data.train_dataloader()) == 34
    for loader in (data.val_dataloader(), data.test_dataloader(), data.train_eval_dataloader()):
        assert [len(targets) for _, targets in loader] == [359]
    first, second = (next(iter(data.train_eval_dataloader()))[0] for _ in range(2))
    assert torch.equal(first, second)
    assert len(next(iter(Digits(train_samples=20).train_eval_dataloader()))[0]) == 20


def test_setup_twice_loads_once(monkeypatch):
    data = Digits()
    data.setup("fit")
    digest, order, inputs = data.digest(), data.order_digest(), data.split("train")[0]
    monkeypatch.setattr(Digits, "raw_data", lambda self: pytest.fail("loaded again"))
    torch.manual_seed(999)
    for stage in ("fit", "validate", "test", None):
        data.setup(stage)
    assert (data.digest(), data.order_digest()) == (digest, order)
    assert data.split("train")[0] is inputs


def test_the_order_follows_the_global_seed_and_nothing_else():
    def order(seed: int, draws: int = 0, **arguments: object) -> list[int]:
        torch.manual_seed(seed)
        torch.rand(draws)
        data = Digits(**arguments)
        data.setup("fit")
        return data.order_digest()

    assert order(1) == order(1, draws=5) == order(1, batch_size=7) == order(1, split_seed=4)
    assert len({order(1), order(2), order(1, replacement=True)}) == 3


def test_an_epoch_leaves_the_data_as_they_are():
    data = Wine(batch_size=16)
    before = data.digest()
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        list(loader)
    assert data.digest() == before


def test_hyperparameters_are_plain_and_rebuild_the_datamodule():
    data = MNIST1D(batch_size="full", label_noise=0.1)
    given = {key: value for key, value in data.hparams.items() if key != "test_fraction"}
    assert given["batch_size"] == "full"
    assert MNIST1D(**given).digest() == data.digest()
    copy = pickle.loads(pickle.dumps(data))
    assert copy.digest() == data.digest()


def test_the_command_line_parser_knows_all_arguments():
    from jsonargparse import ArgumentParser

    from trainoff.datamodules import FashionMNIST

    for data_class in (Digits, MNIST1D, FashionMNIST):
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(data_class, "data")
        built = parser.instantiate(parser.parse_args(["--data.batch_size=full", "--data.label_noise=0.25"]))
        assert built.data.batch_size == "full"
        assert built.data.hparams.label_noise == 0.25


def test_a_set_of_ones_own_is_a_method_and_a_fact():
    class Line(TensorDataModule):
        facts = DataModuleEntry(name="line", target="tests:Line", input_shape=(1,), num_samples=10)

        def raw_data(self) -> RawData:
            return RawData(np.arange(10.0)[:, None], 3 * np.arange(10.0))

    data = Line(batch_size="full")
    inputs, targets = next(iter(data.train_dataloader()))
    assert torch.allclose(inputs, targets)
    assert data.task == "regression"


def test_a_set_without_data_cannot_be_made():
    class Nothing(TensorDataModule):
        facts = DataModuleEntry(name="nothing", target="tests:Nothing")

    with pytest.raises(TypeError, match="raw_data"):
        Nothing()
