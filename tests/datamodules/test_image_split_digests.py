"""Splits of image files never change: digests of small sets that are written here in each format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainoff.datamodules import CIFAR10, CIFAR100, DATAMODULES, MNIST, FashionMNIST, ImageFolder
from trainoff.datamodules.decoded_images import DecodedImages, DecodedSplit, read_decoded, write_decoded
from trainoff.errors import UserError

IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def pixels(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    """The same on every machine and in every version: NumPy promises PCG64's raw stream."""
    words = np.random.PCG64(seed).random_raw(count * int(np.prod(shape)))
    return (words % 256).astype(np.uint8).reshape(count, *shape)


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    arrays = pixels(60, 28, 28), np.arange(60) % 10, pixels(20, 28, 28, seed=1), np.arange(20) % 10
    for name, array in zip(IDX, arrays, strict=True):
        (tmp_path / name).write_bytes(idx_bytes(array.astype(np.uint8)))
    return tmp_path


@pytest.fixture
def small_cifar(monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR's files with 20 records each (100 and 20 for the other one)."""
    monkeypatch.setattr(CIFAR10, "train_records", {f"data_batch_{n}.bin": 20 for n in range(1, 6)})
    monkeypatch.setattr(CIFAR100, "train_records", {"train.bin": 100})
    for data_class in (CIFAR10, CIFAR100):
        monkeypatch.setattr(data_class, "test_records", 20)


def write_cifar(folder: Path, classes: int, order: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The files as CIFAR's page describes them; returns training images (100, 3, 32, 32) and labels."""
    images, labels = pixels(120, 3, 32, 32), (np.arange(120) % classes).astype(np.uint8)
    numbers = np.arange(100) if order is None else order
    names = [f"data_batch_{n}.bin" for n in range(1, 6)] if classes == 10 else ["train.bin"]
    chunks = [*np.array_split(numbers, len(names)), np.arange(100, 120)]
    folder.mkdir(parents=True, exist_ok=True)
    for name, chunk in zip([*names, "test_batch.bin" if classes == 10 else "test.bin"], chunks, strict=True):
        coarse = b"" if classes == 10 else b"\x13"
        (folder / name).write_bytes(b"".join(coarse + bytes([labels[n]]) + images[n].tobytes() for n in chunk))
    return images, labels


@pytest.mark.usefixtures("small_cifar")
def test_cifars_split_is_the_same_in_whatever_order_a_source_gives_the_samples(tmp_path):
    write_cifar(tmp_path / "a", 10)
    write_cifar(tmp_path / "b", 10, np.arange(100)[::-1])
    assert CIFAR10(folder=str(tmp_path / "a")).digest() == CIFAR10(folder=str(tmp_path / "b")).digest()


def test_published_sizes_of_cifars_files():
    data = CIFAR10(), CIFAR100()
    assert {data[0]._length(Path(name)) for name in CIFAR10.file_names} == {30_730_000}  # as its page says
    assert [data[1]._length(Path(name)) for name in CIFAR100.file_names] == [153_700_000, 30_740_000]
    for one in data:
        assert sum(one.train_records.values()) + one.test_records == one.facts.num_samples == 60_000


def image_tree(root: Path, sizes: dict[str, int], mode: str = "RGB", shape: tuple[int, int] = (6, 5)) -> Path:
    for seed, (name, count) in enumerate(sizes.items()):
        (root / name).mkdir(parents=True)
        for number, array in enumerate(pixels(count, *shape, *([3] if mode == "RGB" else []), seed=seed)):
            Image.fromarray(array).save(root / name / f"{number:03}.png")
    return root


def test_a_kept_set_comes_back_and_a_changed_byte_is_found(tmp_path):
    splits = {name: DecodedSplit(pixels(9, 1, 4, 4), np.arange(9)) for name in ("train", "test")}
    path = tmp_path / "kept.npz"
    write_decoded(path, DecodedImages(splits, ["a", "ß"], 123))
    back = read_decoded(path)
    assert (back.class_names, back.size_bytes, set(back.splits)) == (["a", "ß"], 123, {"train", "test"})
    np.testing.assert_array_equal(back.splits["test"].images, splits["test"].images)
    content = bytearray(path.read_bytes())
    place = content.find(splits["train"].images.tobytes())
    content[place + 50] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"kept\.npz: is corrupt .* delete it, and it is made again"):
        read_decoded(path)
    path.write_bytes(content[:-30])
    with pytest.raises(UserError, match=r"kept\.npz: is corrupt"):
        read_decoded(path)


DIGESTS = {
    "idx": "bb1e34251e52aa16",
    "cifar10": "43067b2fb6ec4724",
    "cifar100": "b29db2c0e21ca192",
    "folder": "455658fbd8691ee1",
}


@pytest.mark.usefixtures("small_cifar")
def test_the_splits_of_synthetic_files_never_change(tmp_path, idx_folder):
    write_cifar(tmp_path / "ten", 10)
    write_cifar(tmp_path / "hundred", 100)
    image_tree(tmp_path / "tree", {"a": 20, "b": 30})
    made = {
        "idx": FashionMNIST(folder=str(idx_folder)),
        "cifar10": CIFAR10(folder=str(tmp_path / "ten")),
        "cifar100": CIFAR100(folder=str(tmp_path / "hundred")),
        "folder": ImageFolder(str(tmp_path / "tree")),
    }
    assert {name: data.digest()[:16] for name, data in made.items()} == DIGESTS
    assert MNIST(folder=str(idx_folder)).digest()[:16] == DIGESTS["idx"]


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100"])
def test_the_registry_states_the_published_sizes(name):
    sizes = {"mnist": 9_912_422 + 28_881 + 1_648_877 + 4_542, "cifar10": 170_052_171, "cifar100": 168_513_733}
    entry = DATAMODULES[name]
    assert entry.load().facts is entry
    assert entry.size_bytes == sizes[name]
    assert entry.licence
    assert entry.citation
