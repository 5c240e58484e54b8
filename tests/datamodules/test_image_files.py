"""Image sets in folders: idx files, CIFAR's binary version, one's own images; what is written here is written anew."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
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


def denormalised(data: CIFAR10 | CIFAR100 | ImageFolder, split: str) -> np.ndarray:
    images = data.split(split)[0].double().numpy()
    assert data.input_statistics is not None
    values = images * data.input_statistics.std + data.input_statistics.mean
    assert np.abs(values - values.round()).max() < 1e-3
    return values.round().astype(np.uint8)


def test_mnist_reads_idx_files_and_validates_on_as_many_as_it_tests(idx_folder):
    data = MNIST(folder=str(idx_folder))
    data.prepare_data()
    assert [len(data.split(name)[1]) for name in ("train", "val", "test")] == [50, 10, 20]
    np.testing.assert_array_equal(denormalised(data, "test")[:, 0], pixels(20, 28, 28, seed=1))
    assert data.stored("train")[0].dtype == torch.uint8


@pytest.mark.usefixtures("small_cifar")
@pytest.mark.parametrize(("data_class", "classes"), [(CIFAR10, 10), (CIFAR100, 100)])
@pytest.mark.parametrize("inside", [False, True])
def test_cifar_is_read_as_its_page_describes_it(tmp_path, data_class, classes, inside):
    images, labels = write_cifar(tmp_path / data_class.archive if inside else tmp_path, classes)
    data = data_class(folder=str(tmp_path), val_fraction=0.2)
    assert (data.input_shape, data.num_classes, data.output_size) == ((3, 32, 32), classes, classes)
    np.testing.assert_array_equal(denormalised(data, "test"), images[100:])
    assert data.split("test")[1].tolist() == labels[100:].tolist()
    # each training image with its own label, each once
    found = {
        image.tobytes(): int(label)
        for split in ("train", "val")
        for image, label in zip(denormalised(data, split), data.split(split)[1], strict=True)
    }
    assert found == {image.tobytes(): int(label) for image, label in zip(images[:100], labels, strict=False)}
    train = data.stored("train")[0].double()
    np.testing.assert_allclose(data.input_statistics.mean.ravel(), train.mean((0, 2, 3)).numpy())
    np.testing.assert_allclose(data.input_statistics.std.ravel(), train.std((0, 2, 3), correction=0).numpy())


@pytest.mark.usefixtures("small_cifar")
def test_cifars_split_is_the_same_in_whatever_order_a_source_gives_the_samples(tmp_path):
    write_cifar(tmp_path / "a", 10)
    write_cifar(tmp_path / "b", 10, np.arange(100)[::-1])
    assert CIFAR10(folder=str(tmp_path / "a")).digest() == CIFAR10(folder=str(tmp_path / "b")).digest()


@pytest.mark.usefixtures("small_cifar")
def test_broken_files_of_cifar_are_named_and_nothing_is_unpickled(tmp_path):
    write_cifar(tmp_path, 10)
    path = tmp_path / "data_batch_3.bin"
    content = path.read_bytes()

    def mistake() -> str:
        with pytest.raises(UserError) as caught:
            CIFAR10(folder=str(tmp_path)).setup("fit")
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(f"{path}: ")
        return str(caught.value)

    path.write_bytes(content[:-3073])  # a whole record less
    assert f"holds {19 * 3073} bytes in place of {20 * 3073}" in mistake()
    path.write_bytes(b"\x0a" + content[1:])
    assert "a class of 10 or more" in mistake()
    path.unlink()
    assert "cannot be read" in mistake()

    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    path.with_suffix("").write_bytes(pickle.dumps(Trap()))
    assert "'data_batch_3' beside it is of the pickled version" in mistake()


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


def test_a_folder_for_each_class(tmp_path):
    image_tree(tmp_path, {"cat": 20, "dog": 30})
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    data = ImageFolder(str(tmp_path), batch_size=8)
    assert data.task == "classification"
    data.setup("fit")
    assert data.input_shape == (3, 6, 5)
    assert (data.num_classes, data.output_size, data.class_names) == (2, 2, ("cat", "dog"))
    assert [len(data.split(name)[1]) for name in ("train", "val", "test")] == [30, 10, 10]
    assert data.size_bytes == sum(path.stat().st_size for path in tmp_path.rglob("*.png"))
    seen = {
        image.tobytes(): int(label)
        for split in ("train", "val", "test")
        for image, label in zip(denormalised(data, split), data.split(split)[1], strict=True)
    }
    expected = {
        array.transpose(2, 0, 1).tobytes(): label
        for label, count in enumerate((20, 30))
        for array in pixels(count, 6, 5, 3, seed=label)
    }
    assert seen == expected
    inputs, targets = next(iter(data.train_dataloader()))
    assert inputs.shape == (8, 3, 6, 5)
    assert targets.dtype == torch.int64


def test_folders_of_splits_are_the_official_ones(tmp_path):
    image_tree(tmp_path, {"train/a": 10, "train/b": 10, "valid/a": 3, "valid/b": 2, "test/b": 4}, mode="L")
    data = ImageFolder(str(tmp_path))
    assert [len(data.split(name)[1]) for name in ("train", "val", "test")] == [20, 5, 4]
    assert data.input_shape == (1, 6, 5)
    assert data.split("test")[1].tolist() == [1] * 4
    with pytest.raises(UserError, match=r"val_fraction: 0.3 does not go with this set"):
        ImageFolder(str(tmp_path), val_fraction=0.3).setup("fit")
    for path in (tmp_path / "valid").rglob("*.png"):
        path.unlink()
    for folder in ("a", "b", ""):
        (tmp_path / "valid" / folder).rmdir()
    assert [len(ImageFolder(str(tmp_path)).split(name)[1]) for name in ("train", "val", "test")] == [16, 4, 4]


def test_sizes_that_differ_are_named_and_resized_where_that_is_asked(tmp_path):
    image_tree(tmp_path, {"a": 10, "b": 10})
    Image.new("L", (10, 12), 77).save(tmp_path / "b" / "odd.png")
    with pytest.raises(UserError, match=r"odd\.png: is 10 x 12 pixels and .*a/000\.png is 5 x 6; give resize="):
        ImageFolder(str(tmp_path)).setup("fit")
    data = ImageFolder(str(tmp_path), resize=[4, 8])
    assert data.split("train")[0].shape[1:] == data.input_shape == (3, 4, 8)
    assert ImageFolder(str(tmp_path), resize=7).split("val")[0].shape[1:] == (3, 7, 7)
    constant = [image for split in ("train", "val", "test") for image in denormalised(data, split) if image.std() == 0]
    assert [np.unique(image).tolist() for image in constant] == [[77]]
    with pytest.raises(UserError, match="resize: 0 is neither a number of pixels"):
        ImageFolder(str(tmp_path), resize=0)


def test_a_corrupt_image_a_wrong_path_and_a_strange_class_are_named(tmp_path):
    root = image_tree(tmp_path / "set", {"a": 10, "b": 10}, shape=(40, 40))

    def mistake(path: Path) -> str:
        with pytest.raises(UserError) as caught:
            ImageFolder(str(path)).setup("fit")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    content = (root / "b" / "004.png").read_bytes()
    for broken in (content[: len(content) // 2], b"", b"<html>"):
        (root / "b" / "004.png").write_bytes(broken)
        assert mistake(root).startswith(f"{root}/b/004.png: ")
        assert "get the image again" in mistake(root)
    (root / "b" / "004.png").write_bytes(content)
    Image.fromarray(np.zeros((40, 40), np.uint16)).save(root / "a" / "deep.png")
    assert "pixels of more than 8 bits" in mistake(root)
    assert (
        mistake(tmp_path / "nowhere")
        == f"{tmp_path}/nowhere: is no folder; give the one that holds a folder for each class"
    )
    (tmp_path / "empty").mkdir()
    assert "holds no folders" in mistake(tmp_path / "empty")
    (tmp_path / "empty" / "a").mkdir()
    assert "holds no images" in mistake(tmp_path / "empty")
    image_tree(tmp_path / "other", {"train/a": 9, "train/b": 9, "test/c": 3})
    assert f"{tmp_path}/other/test/c: is no class of the training images; they have a, b" in mistake(
        tmp_path / "other"
    )


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
