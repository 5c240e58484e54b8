from __future__ import annotations

import gzip
import os
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from trainoff.datamodules import hub
from trainoff.datamodules.fashion_mnist import FashionMNIST
from trainoff.datamodules.idx_files import read_idx, write_idx
from trainoff.errors import UserError

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def arrays(train: int = 60, test: int = 20) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [
        array.astype(np.uint8)
        for count in (train, test)
        for array in (generator.integers(0, 256, (count, 28, 28)), np.arange(count) % 10)
    ]


def idx_bytes(array: np.ndarray) -> bytes:
    """The format as its page describes it, written independently of the reader's own writer."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, array in zip(NAMES, arrays(), strict=True):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(array)))
    return tmp_path


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No folder has the files, and no cache does."""
    for name in ("TRAINOFF_DATA", "HF_HOME", "HF_DATASETS_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(FashionMNIST, "system_folder", tmp_path / "none")
    return tmp_path


def test_idx_files_are_read_plain_and_compressed(tmp_path):
    array = arrays()[0]
    write_idx(tmp_path / "sub" / "images", array)
    assert (tmp_path / "sub" / "images").read_bytes() == idx_bytes(array)
    assert np.array_equal(read_idx(tmp_path / "sub" / "images"), array)
    (tmp_path / "images.gz").write_bytes(gzip.compress(idx_bytes(array)))
    assert np.array_equal(read_idx(tmp_path / "images.gz"), array)
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["images"]


@pytest.mark.parametrize("keep", [0, 3, 9, 20, 2000, -1])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_truncated_file_is_named(tmp_path, keep, compressed):
    content = idx_bytes(arrays()[0])
    path = tmp_path / ("images.gz" if compressed else "images")
    path.write_bytes((gzip.compress(content) if compressed else content)[:keep])
    with pytest.raises(UserError, match="get the file again") as caught:
        read_idx(path)
    assert caught.value.where == str(path)


def test_corrupt_missing_and_foreign_files_are_named(tmp_path):
    content = bytearray(gzip.compress(idx_bytes(arrays()[0])))
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "corrupt.gz").write_bytes(content)
    (tmp_path / "text.gz").write_bytes(b"<html>")
    (tmp_path / "floats").write_bytes(b"\0\0\x0d\1\0\0\0\1\0\0\0\0")
    for name in ("corrupt.gz", "text.gz", "floats", "missing.gz"):
        with pytest.raises(UserError) as caught:
            read_idx(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
        assert "\n" not in str(caught.value)


def test_a_write_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(AttributeError):
        write_idx(tmp_path / "images", "no array")
    assert list(tmp_path.iterdir()) == []


def test_the_folder_argument(folder):
    data = FashionMNIST(folder=str(folder))
    data.prepare_data()
    data.setup("fit")
    assert [len(data.split(name)[1]) for name in ("train", "val", "test")] == [50, 10, 20]
    images, labels = arrays()[2:]
    mean, std = float(data.input_statistics.mean), float(data.input_statistics.std)
    np.testing.assert_allclose(data.split("test")[0].numpy()[:, 0] * std + mean, images, atol=1e-4)
    assert data.split("test")[1].tolist() == labels.tolist()


def test_a_folder_without_a_file_names_it(folder):
    (folder / f"{NAMES[3]}.gz").unlink()
    with pytest.raises(UserError, match=r"t10k-labels-idx1-ubyte\.gz: cannot be read"):
        FashionMNIST(folder=str(folder)).setup("fit")


def test_images_and_labels_that_do_not_match_are_refused(folder):
    write_idx(folder / NAMES[1], np.zeros(59, np.uint8))
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz: .* are not Fashion-MNIST's"):
        FashionMNIST().read_folder(folder)


def test_the_environment_names_the_folder(folder, nowhere, monkeypatch):
    (folder / "fashion_mnist").mkdir()
    for name in NAMES:
        (folder / f"{name}.gz").rename(folder / "fashion_mnist" / f"{name}.gz")
    monkeypatch.setenv("TRAINOFF_DATA", str(folder))
    data = FashionMNIST()
    data.prepare_data()
    assert len(data.split("test")[1]) == 20


def test_the_hubs_layout_is_decoded_once_and_kept(nowhere, monkeypatch):
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=10)})
    train_images, train_labels, test_images, test_labels = arrays(1500, 20)
    parts = {
        part: datasets.Dataset.from_dict({"image": list(images), "label": labels}, features=features)
        for part, images, labels in (("train", train_images, train_labels), ("test", test_images, test_labels))
    }
    for part, rows in parts.items():
        rows.to_parquet(nowhere / "parquet" / f"{part}.parquet")
    files = {part: str(nowhere / "parquet" / f"{part}.parquet") for part in parts}
    served = datasets.load_dataset("parquet", data_files=files, cache_dir=str(nowhere / "cache"))
    asked = []
    monkeypatch.setattr(hub, "hub_answers", lambda: True)
    monkeypatch.setattr(hub, "_ask_for", lambda name: None)
    monkeypatch.setattr(datasets, "load_dataset", lambda name: asked.append(name) or served)
    data = FashionMNIST()
    data.prepare_data()
    data.prepare_data()
    assert asked == ["zalando-datasets/fashion_mnist"]
    kept = nowhere / "home" / ".cache" / "trainoff" / "fashion_mnist"
    assert [path.read_bytes() for path in sorted(kept.iterdir())] == [
        idx_bytes(array) for array in (test_images, test_labels, train_images, train_labels)
    ]
    assert len(data.split("train")[1]) == 1250


def test_the_cache_of_datasets_serves_offline(nowhere, monkeypatch):
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=10)})
    train_images, train_labels, test_images, test_labels = arrays()
    home = nowhere / "home" / ".cache" / "huggingface" / "datasets"
    target = home / "zalando-datasets___fashion_mnist" / "fashion_mnist" / "0.0.0" / "531be5e2"
    target.mkdir(parents=True)
    for part, images, labels in (("train", train_images, train_labels), ("test", test_images, test_labels)):
        rows = datasets.Dataset.from_dict({"image": list(images), "label": labels}, features=features)
        rows.save_to_disk(nowhere / part)
        (nowhere / part / "data-00000-of-00001.arrow").rename(target / f"fashion_mnist-{part}.arrow")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TRAINOFF_DATA", str(nowhere / "mine"))
    data = FashionMNIST()
    data.prepare_data()
    assert (nowhere / "mine" / "fashion_mnist" / NAMES[0]).read_bytes() == idx_bytes(train_images)
    assert len(data.split("test")[1]) == 20


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.parametrize("how", ["switched off", "refused", "no such host", "silent"])
def test_offline_without_files_is_one_line_within_five_seconds(nowhere, monkeypatch, how):
    if how == "switched off":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    elif how == "refused":
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed_port()}")
    elif how == "no such host":
        monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    else:

        def silent(*_: object, **__: object) -> None:
            time.sleep(30)
            raise TimeoutError

        monkeypatch.setattr(socket, "create_connection", silent)
    start = time.monotonic()
    with pytest.raises(UserError, match=r"dataset-fashion-mnist.*/\.cache/trainoff/fashion_mnist.*folder=") as caught:
        FashionMNIST().prepare_data()
    assert time.monotonic() - start < 5
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="prepare_data"):
        FashionMNIST().setup("fit")


def test_a_hub_that_fails_is_one_line(nowhere, monkeypatch):
    import datasets

    def refuse(name: str) -> None:
        raise ConnectionError(f"403\nfor {name}")

    monkeypatch.setattr(hub, "hub_answers", lambda: True)
    monkeypatch.setattr(hub, "_ask_for", lambda name: None)
    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UserError, match=r"the hub failed \(403 for zalando-datasets/fashion_mnist\); install Debian"):
        FashionMNIST().prepare_data()


def test_a_hub_or_a_proxy_that_listens_answers(nowhere, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
        assert hub.hub_answers()
        monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        assert hub.hub_answers()
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert not hub.hub_answers()


@pytest.mark.skipif(not DEBIAN.exists(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_the_real_set_has_the_published_counts_and_splits():
    data = FashionMNIST(folder=str(DEBIAN))
    data.setup("fit")
    assert [len(data.split(name)[1]) for name in ("train", "val", "test")] == [50_000, 10_000, 10_000]
    for name, count in (("train", 5000), ("val", 1000), ("test", 1000)):
        assert data.split(name)[0].shape[1:] == data.input_shape == (1, 28, 28)
        assert torch.bincount(data.split(name)[1]).tolist() == [count] * 10
    pixels = FashionMNIST().read_folder(DEBIAN).inputs / np.float32(255)
    # the mean and the deviation of the 60,000, as published in many places
    assert float(pixels.mean(dtype=np.float64)) == pytest.approx(0.2860, abs=5e-5)
    assert float(pixels.std(dtype=np.float64)) == pytest.approx(0.3530, abs=5e-5)
    assert float(data.input_statistics.mean) / 255 == pytest.approx(0.2860, abs=2e-3)
    assert data.digest()[:16] == "43dd6b9f92853395"
