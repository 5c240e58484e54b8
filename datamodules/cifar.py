"""CIFAR-10 and CIFAR-100, from the files of their binary version or from the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from trainoff.datamodules.downloaded_images import DownloadedImages
from trainoff.datamodules.facts.entry import DataModuleEntry
from trainoff.datamodules.facts.image_sets import CIFAR10 as CIFAR10_FACTS
from trainoff.datamodules.facts.image_sets import CIFAR100 as CIFAR100_FACTS
from trainoff.datamodules.image_decoding import HubColumn, ImageFormat, decode_images
from trainoff.datamodules.splits import RawData
from trainoff.datamodules.whole_files import write_whole
from trainoff.errors import UserError

_FORMAT = ImageFormat(channels=3, height=32, width=32)
_PIXELS = 3 * 32 * 32

Records = npt.NDArray[np.uint8]


class _CIFAR(DownloadedImages):
    """60,000 colour images of 32 x 32 as records: label bytes, then the red, the green and the blue plane.

    The training samples are put into the order of their bytes, so that the split is the same whatever the order in
    which a source gives them: the hub's is that of the archive of the other version.
    """

    train_records: ClassVar[Mapping[str, int]]  # of each file of the official training split
    test_file: ClassVar[str]
    test_records: ClassVar[int] = 10_000
    label_columns: ClassVar[tuple[str, ...]]  # the hub's, in the order of a record's bytes; the last one is the class
    archive: ClassVar[str]
    default_val_fraction: ClassVar[float] = 0.1  # 45,000 + 5,000, as in He et al. 2016, section 4.2

    def read_folder(self, folder: Path) -> RawData:
        """Pixels as uint8, and the classes.

        Raises:
            UserError: Naming the file that is missing, truncated or corrupt.
        """
        paths = dict(zip(self.file_names, self._paths(folder), strict=True))
        train = np.concatenate([self._read(paths[name]) for name in self.train_records])
        test = self._read(paths[self.test_file])
        train = train[np.argsort(train.view(f"V{train.shape[1]}")[:, 0], kind="stable")]
        return RawData(*self._images_and_classes(train), *self._images_and_classes(test))

    def write_folder(self, dataset: Mapping[str, Any], folder: Path) -> None:
        """Write the splits ``train`` and ``test`` as the files of the binary version."""
        train, test = (self._records(dataset[name]) for name in ("train", "test"))
        if (len(train), len(test)) != (sum(self.train_records.values()), self.test_records):
            raise UserError(f"has {len(train)} + {len(test)} images, which are not {self.title}'s", self.hub_name)
        start = 0
        for name, count in self.train_records.items():
            _write(folder / name, train[start : start + count])
            start += count
        _write(folder / self.test_file, test)

    def is_whole(self, path: Path) -> bool:
        """By the number of its records."""
        return path.stat().st_size == self._length(path)

    @classmethod
    def _path(cls, folder: Path, name: str) -> Path:
        inside = folder / cls.archive / name
        return inside if inside.exists() else folder / name

    def _length(self, path: Path) -> int:
        records = self.test_records if path.name == self.test_file else self.train_records[path.name]
        return records * (len(self.label_columns) + _PIXELS)

    def _read(self, path: Path) -> Records:
        if not path.exists() and path.with_suffix("").exists():
            raise UserError(f"'{path.stem}' beside it is of the pickled version; get {self.alternative}", str(path))
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"cannot be read ({error.strerror}); get the file again", str(path)) from error
        if len(content) != self._length(path):
            raise UserError(
                f"holds {len(content)} bytes in place of {self._length(path)}; get the file again", str(path)
            )
        records = np.frombuffer(content, np.uint8).reshape(-1, len(self.label_columns) + _PIXELS)
        if (self._classes(records) >= (self.num_classes or 0)).any():
            raise UserError(f"holds a class of {self.num_classes} or more; get the file again", str(path))
        return records

    def _classes(self, records: Records) -> Records:
        return records[:, len(self.label_columns) - 1]

    def _images_and_classes(self, records: Records) -> tuple[Records, npt.NDArray[np.int64]]:
        images = records[:, len(self.label_columns) :].reshape(-1, *_FORMAT)
        return images, self._classes(records).astype(np.int64)

    def _records(self, split: Any) -> Records:
        images = HubColumn(split, "img", self.hub_name)
        labels = [np.array(split[column], np.uint8)[:, None] for column in self.label_columns]
        return np.concatenate([*labels, decode_images(images, len(images), _FORMAT).reshape(-1, _PIXELS)], axis=1)


def _write(path: Path, records: Records) -> None:
    write_whole(path, lambda file: file.write(np.ascontiguousarray(records).data))


class CIFAR10(_CIFAR):
    """50,000 + 10,000 colour images of 32 x 32 in 10 classes; inputs ``(3, 32, 32)``.

    Where the files are looked for, and the arguments, is told by :class:`DownloadedImages`; they are those of the
    **binary** version (``cifar-10-binary.tar.gz``, unpacked: ``data_batch_1.bin``, ...), in the folder or in its
    ``cifar-10-batches-bin``. A tenth of the official training split validates. From the hub it comes as
    ``uoft-cs/cifar10``.

    Source: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images.
    """

    facts: ClassVar[DataModuleEntry] = CIFAR10_FACTS
    title: ClassVar[str] = "CIFAR-10"
    hub_name: ClassVar[str] = "uoft-cs/cifar10"
    alternative: ClassVar[str] = "unpack cifar-10-binary.tar.gz (https://www.cs.toronto.edu/~kriz/cifar.html)"
    archive: ClassVar[str] = "cifar-10-batches-bin"
    train_records: ClassVar[Mapping[str, int]] = {f"data_batch_{number}.bin": 10_000 for number in range(1, 6)}
    test_file: ClassVar[str] = "test_batch.bin"
    file_names: ClassVar[tuple[str, ...]] = (*train_records, test_file)
    label_columns: ClassVar[tuple[str, ...]] = ("label",)


class CIFAR100(_CIFAR):
    """50,000 + 10,000 colour images of 32 x 32 in 100 classes (the fine ones); inputs ``(3, 32, 32)``.

    As :class:`CIFAR10`; the files are ``train.bin`` and ``test.bin`` of ``cifar-100-binary.tar.gz``, in the folder or
    in its ``cifar-100-binary``. From the hub it comes as ``uoft-cs/cifar100``.

    Source: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images.
    """

    facts: ClassVar[DataModuleEntry] = CIFAR100_FACTS
    title: ClassVar[str] = "CIFAR-100"
    hub_name: ClassVar[str] = "uoft-cs/cifar100"
    alternative: ClassVar[str] = "unpack cifar-100-binary.tar.gz (https://www.cs.toronto.edu/~kriz/cifar.html)"
    archive: ClassVar[str] = "cifar-100-binary"
    train_records: ClassVar[Mapping[str, int]] = {"train.bin": 50_000}
    test_file: ClassVar[str] = "test.bin"
    file_names: ClassVar[tuple[str, ...]] = (*train_records, test_file)
    label_columns: ClassVar[tuple[str, ...]] = ("coarse_label", "fine_label")
