"""One's own images: a folder for each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from trainoff.datamodules.facts.entry import DataModuleEntry
from trainoff.datamodules.facts.image_sets import IMAGE_FOLDER
from trainoff.datamodules.image_datamodule import ImageDataModule
from trainoff.datamodules.image_decoding import ImageSource, check_resize, common_format, decode_images
from trainoff.datamodules.splits import RawData
from trainoff.errors import UserError

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_VALIDATION_NAMES = ("val", "valid", "validation")


class ImageFolder(ImageDataModule):
    """Images in folders: ``path/<class>/*.png``, or ``path/train/<class>/*.png`` with ``val`` and ``test`` beside.

    Classes are numbered in the order of their names. Where there is a folder ``train``, the folders ``val`` (or
    ``valid``, ``validation``) and ``test`` are the official splits; where one of them is missing, a share of the
    training images takes its place. The images are decoded by PIL at each start. They are of one channel where all
    are grey, else of three (RGB); they are all of one size, or ``resize`` is given.

    Args:
        path: The folder.
        resize: Height and width of all images, ``[32, 48]``, or a number for a square; see
            :func:`trainoff.datamodules.image_decoding.decode_images`.
        batch_size: See :class:`ImageDataModule`, as for all others.
        microbatches: Parts of each training batch.
        split_seed: The seed of the split.
        val_fraction: The share that validates; None for the folder ``val``, or for 0.2 where there is none.
        test_fraction: The share that tests; None for the folder ``test``, or for 0.2 where there is none.
        label_noise: The share of training labels to replace.
        train_samples: Keep only so many training samples.
        replacement: Draw training samples with replacement.
        augmentation: What is done to training batches.

    Raises:
        UserError: Where ``resize`` is no size. Reading names the folder or the image that is missing or corrupt.
    """

    facts: ClassVar[DataModuleEntry] = IMAGE_FOLDER

    def __init__(
        self,
        path: str,
        resize: int | list[int] | None = None,
        batch_size: int | Literal["full"] = 128,
        microbatches: int = 1,
        split_seed: int = 0,
        val_fraction: float | None = None,
        test_fraction: float | None = None,
        label_noise: float = 0.0,
        train_samples: int | None = None,
        replacement: bool = False,
        augmentation: list[str | dict[str, Any]] | None = None,
    ) -> None:
        fractions = val_fraction, test_fraction
        super().__init__(
            batch_size, microbatches, split_seed, *fractions, label_noise, train_samples, replacement, augmentation
        )
        self.path, self.resize = path, check_resize(resize)

    def raw_data(self) -> RawData:
        """The decoded images of the folders."""
        root = Path(self.path).expanduser()
        if not root.is_dir():
            raise UserError("is no folder; give the one that holds a folder for each class", str(root))
        training = root / "train" if (root / "train").is_dir() else root
        classes = [folder.name for folder in _folders(training)]
        if not classes:
            raise UserError("holds no folders; there must be one for each class", str(training))
        paths = {"train": _images(training, classes)}
        if training != root:
            val = next((root / name for name in _VALIDATION_NAMES if (root / name).is_dir()), None)
            for name, folder in (("val", val), ("test", root / "test")):
                if folder is not None and folder.is_dir():
                    paths[name] = _images(folder, classes)
        form = common_format([source for part in paths.values() for source in part[0]], self.resize)
        self.describe(form, classes)
        self.size_bytes = sum(Path(source.where).stat().st_size for part in paths.values() for source in part[0])
        data = {
            name: (decode_images(sources, len(sources), form), labels) for name, (sources, labels) in paths.items()
        }
        return RawData(*data["train"], *data.get("test", (None, None)), *data.get("val", (None, None)))


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _images(folder: Path, classes: Sequence[str]) -> tuple[list[ImageSource], npt.NDArray[np.int64]]:
    """The images of a split, ordered by class and path, and their classes."""
    sources, labels = [], []
    for inner in _folders(folder):
        if inner.name not in classes:
            raise UserError(f"is no class of the training images; they have {', '.join(classes)}", str(inner))
        found = sorted(path for path in inner.rglob("*") if path.suffix.lower() in _SUFFIXES)
        if not found:
            raise UserError(f"holds no images; their names end in {', '.join(sorted(_SUFFIXES))}", str(inner))
        sources += [ImageSource(str(path), path) for path in found]
        labels += [classes.index(inner.name)] * len(found)
    if not sources:
        raise UserError("holds no folders; there must be one for each class", str(folder))
    return sources, np.array(labels, np.int64)
