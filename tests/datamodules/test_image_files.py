"""Image sets from files: MNIST's idx, CIFAR's binary version, folders of images; each written here by hand."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainoff.datamodules import CIFAR10, CIFAR100, MNIST, ImageFolder
from trainoff.errors import UserError


@pytest.fixture(autouse=True)
def _small_cifar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of 20 and 10 records in place of 10,000: the format is the same."""
    monkeypatch.setattr(CIFAR10, "train_records", {f"data_batch_{n}.bin": 20 for n in range(1, 6)})
    monkeypatch.setattr(CIFAR10, "test_records", 10)
    monkeypatch.setattr(CIFAR100, "train_records", {"train.bin": 200})
    monkeypatch.setattr(CIFAR100, "test_records", 100)


def cifar_bytes(images: np.ndarray, *labels: np.ndarray) -> bytes:
    """Label bytes, then 1,024 red, green and blue bytes, row by row: as the page of CIFAR describes it."""
    records = []
    for number, image in enumerate(images):
        planes = [image[row, column, channel] for channel in range(3) for row in range(32) for column in range(32)]
        records.append(bytes([int(column[number]) for column in labels]) + bytes(map(int, planes)))
    return b"".join(records)


def write_cifar10(folder: Path) -> dict[str, Any]:
    """Five batches and a test batch; what is in them."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    content = {}
    for name, count in [*((f"data_batch_{n}.bin", 20) for n in range(1, 6)), ("test_batch.bin", 10)]:
        images = generator.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
        labels = np.arange(count) % 10
        (folder / name).write_bytes(cifar_bytes(images, labels))
        content[name] = (images, labels)
    return content


@pytest.mark.parametrize("inside", ["", "cifar-10-batches-bin"])
def test_cifar10s_binary_version(tmp_path: Path, inside: str) -> None:
    content = write_cifar10(tmp_path / inside)
    data = CIFAR10(folder=str(tmp_path))
    data.prepare_data()
    data.setup("fit")
    assert [len(data.split(name)[1]) for name in ("train", "val", "test")] == [90, 10, 10]
    images, labels = content["test_batch.bin"]
    assert torch.equal(data.stored("test")[0], torch.from_numpy(images).permute(0, 3, 1, 2))
    assert data.stored("test")[1].tolist() == labels.tolist()
    assert data.input_shape == (3, 32, 32)
    # every training image is there once, whatever the order
    given = np.concatenate([content[f"data_batch_{n}.bin"][0] for n in range(1, 6)]).transpose(0, 3, 1, 2)
    found = [image.numpy().tobytes() for name in ("train", "val") for image in data.stored(name)[0]]
    assert sorted(found) == sorted(image.tobytes() for image in given)
    assert data.digest()[:16] == "ffcc8842eb657e8e"


def test_cifar100_has_coarse_and_fine_labels(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name, count in (("train.bin", 200), ("test.bin", 100)):
        images = generator.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
        fine = np.arange(count) % 100
        (tmp_path / name).write_bytes(cifar_bytes(images, fine // 5, fine))
    data = CIFAR100(folder=str(tmp_path))
    data.setup("fit")
    assert data.num_classes == 100
    assert data.stored("test")[1].tolist() == list(range(100))
    assert data.digest()[:16] == "1a385012f58c33fa"


def test_a_truncated_or_missing_batch_is_named(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    path = tmp_path / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="in place of") as caught:
        CIFAR10(folder=str(tmp_path)).setup("fit")
    assert caught.value.where == str(path)
    path.unlink()
    with pytest.raises(UserError, match="cannot be read") as caught:
        CIFAR10(folder=str(tmp_path)).setup("fit")
    assert caught.value.where == str(path)


def test_a_class_that_there_is_not_is_corruption(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    path = tmp_path / "test_batch.bin"
    path.write_bytes(b"\x0a" + path.read_bytes()[1:])
    with pytest.raises(UserError, match="class of 10 or more"):
        CIFAR10(folder=str(tmp_path)).setup("fit")


def test_the_pickled_version_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(UserError, match="pickled version; get unpack cifar-10-binary"):
        CIFAR10(folder=str(tmp_path)).setup("fit")


def idx_bytes(array: np.ndarray) -> bytes:
    """The format as its page describes it."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.tobytes()


def test_mnist_from_its_four_files(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for part, count in (("train", 60), ("t10k", 20)):
        images = generator.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(
            gzip.compress(idx_bytes(np.arange(count, dtype=np.uint8) % 10))
        )
    data = MNIST(folder=str(tmp_path))
    data.setup("fit")
    assert [len(data.split(name)[1]) for name in ("train", "val", "test")] == [50, 10, 20]
    assert torch.equal(data.stored("test")[0][:, 0], torch.from_numpy(images))
    assert data.digest()[:16] == "d863b3b11c256aac"


def png(array: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def write_folder(root: Path, splits: dict[str, int], shape: tuple[int, ...] = (9, 7, 3)) -> dict[str, np.ndarray]:
    """Three classes a split; the first image of each split is returned."""
    generator = np.random.default_rng(0)
    first = {}
    for split, count in splits.items():
        for name in ("cat", "dog", "owl"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                image = generator.integers(0, 256, shape).astype(np.uint8)
                first.setdefault(split, image)
                (folder / f"{number:03}.png").write_bytes(png(image))
    return first


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    write_folder(tmp_path, {"": 20})
    data = ImageFolder(str(tmp_path))
    data.setup("fit")
    assert data.input_shape == (3, 9, 7)
    assert data.class_names == ("cat", "dog", "owl")
    assert [len(data.split(name)[1]) for name in ("train", "val", "test")] == [36, 12, 12]
    for name in ("train", "val", "test"):
        counts = torch.bincount(data.split(name)[1])
        assert counts.min() == counts.max()
    assert data.digest()[:16] == "24aee3dc5753f49d"


def test_folders_for_splits_are_the_official_ones(tmp_path: Path) -> None:
    first = write_folder(tmp_path, {"train": 10, "val": 4, "test": 3})
    data = ImageFolder(str(tmp_path))
    data.setup("fit")
    assert [len(data.split(name)[1]) for name in ("train", "val", "test")] == [30, 12, 9]
    stored = data.stored("test")[0].numpy()
    assert any(np.array_equal(image, first["test"].transpose(2, 0, 1)) for image in stored)


def test_grey_images_have_one_channel_and_sizes_are_made_equal(tmp_path: Path) -> None:
    write_folder(tmp_path, {"": 10}, (9, 7))
    (tmp_path / "owl" / "large.png").write_bytes(png(np.full((20, 30), 77, np.uint8)))
    with pytest.raises(UserError, match="give resize="):
        ImageFolder(str(tmp_path)).setup("fit")
    data = ImageFolder(str(tmp_path), resize=[4, 6])
    data.setup("fit")
    assert data.input_shape == (1, 4, 6)
    assert any((image == 77).all() for name in ("train", "val", "test") for image in data.stored(name)[0])


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_a_corrupt_image_is_named(tmp_path: Path, content: bytes) -> None:
    write_folder(tmp_path, {"": 5})
    path = tmp_path / "dog" / "002.png"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        ImageFolder(str(tmp_path)).setup("fit")
    assert caught.value.where == str(path)
    assert "\n" not in str(caught.value)


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, {"": 5})
    path = tmp_path / "dog" / "002.png"
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(UserError, match="is corrupt") as caught:
        ImageFolder(str(tmp_path)).setup("fit")
    assert caught.value.where == str(path)


def test_missing_and_empty_folders_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder"):
        ImageFolder(str(tmp_path / "nowhere")).setup("fit")
    (tmp_path / "cat").mkdir()
    with pytest.raises(UserError, match="holds no images"):
        ImageFolder(str(tmp_path)).setup("fit")
