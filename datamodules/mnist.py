"""MNIST, and what it shares with the sets that took over its format: four idx files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from trainoff.datamodules.downloaded_images import DownloadedImages
from trainoff.datamodules.facts.entry import DataModuleEntry
from trainoff.datamodules.facts.image_sets import MNIST as FACTS
from trainoff.datamodules.idx_files import is_whole_idx, read_idx, write_idx
from trainoff.datamodules.image_decoding import HubColumn, ImageFormat, decode_images
from trainoff.datamodules.splits import RawData
from trainoff.errors import UserError

_FORMAT = ImageFormat(channels=1, height=28, width=28)


class IdxImages(DownloadedImages):
    """70,000 grey images of 28 x 28 in four idx files, plain or compressed (``.gz``)."""

    file_names: ClassVar[tuple[str, ...]] = (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    )
    default_val_fraction: ClassVar[float] = 1 / 6  # as many as the official test split has

    def read_folder(self, folder: Path) -> RawData:
        """Grey levels from 0 to 255 as uint8, and the classes.

        Raises:
            UserError: Naming the file that is missing, truncated, corrupt, or at odds with its partner.
        """
        paths = self._paths(folder)
        arrays = [read_idx(path) for path in paths]
        for images, labels, path in ((arrays[0], arrays[1], paths[0]), (arrays[2], arrays[3], paths[2])):
            if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1] or (labels >= 10).any():
                raise UserError(
                    f"images of shape {images.shape} and labels of shape {labels.shape} are not {self.title}'s",
                    str(path),
                )
        return RawData(arrays[0][:, None], arrays[1].astype(np.int64), arrays[2][:, None], arrays[3].astype(np.int64))

    def write_folder(self, dataset: Mapping[str, Any], folder: Path) -> None:
        """Write the columns ``image`` and ``label`` of the splits ``train`` and ``test`` as idx files."""
        for part, name in (("train", "train"), ("t10k", "test")):
            images = HubColumn(dataset[name], "image", self.hub_name)
            write_idx(folder / f"{part}-images-idx3-ubyte", decode_images(images, len(images), _FORMAT)[:, 0])
            write_idx(folder / f"{part}-labels-idx1-ubyte", np.array(dataset[name]["label"], np.uint8))

    def is_whole(self, path: Path) -> bool:
        """By the sizes in its header."""
        return is_whole_idx(path)

    @classmethod
    def _path(cls, folder: Path, name: str) -> Path:
        plain = folder / name
        return plain if plain.exists() else folder / f"{name}.gz"


class MNIST(IdxImages):
    """60,000 + 10,000 grey images of 28 x 28 of handwritten digits; inputs ``(1, 28, 28)``, 10 classes.

    Where the files are looked for, and the arguments, is told by :class:`DownloadedImages`; 10,000 of the official
    60,000 validate. From the hub it comes as ``ylecun/mnist``.

    Source: LeCun, Bottou, Bengio and Haffner 1998, Gradient-based learning applied to document recognition.
    """

    facts: ClassVar[DataModuleEntry] = FACTS
    title: ClassVar[str] = "MNIST"
    hub_name: ClassVar[str] = "ylecun/mnist"
    alternative: ClassVar[str] = "put the four idx files (train-images-idx3-ubyte.gz, ...)"
