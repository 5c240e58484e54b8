"""Any set of images of the Hugging Face hub, by its name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from trainoff.datamodules.decoded_images import (
    DecodedImages,
    DecodedSplit,
    is_whole_decoded,
    read_decoded,
    write_decoded,
)
from trainoff.datamodules.facts.entry import DataModuleEntry
from trainoff.datamodules.facts.image_sets import HUB_IMAGES
from trainoff.datamodules.hub import HubError, check_column, load_hub_dataset, own_folders
from trainoff.datamodules.image_datamodule import ImageDataModule
from trainoff.datamodules.image_decoding import HubColumn, check_resize, common_format, decode_images
from trainoff.datamodules.splits import RawData
from trainoff.errors import UserError

_SPLIT_NAMES = {"train": ("train",), "val": ("validation", "valid", "val", "dev"), "test": ("test",)}


class HubImages(ImageDataModule):
    """An image set of the hub with a column of images and one of classes; inputs ``(channels, height, width)``.

    The hub's splits ``train``, ``validation`` and ``test`` are the official ones; where one of the last two is
    missing, or its labels are (-1), a share of the training images takes its place. :meth:`prepare_data` gets the set
    once, from the hub or from the cache of ``datasets``, decodes it, and keeps it as one file in
    ``$TRAINOFF_DATA/hub_images`` or ``~/.cache/trainoff/hub_images``; a truncated one is made again. The images are
    of one channel where all are grey, else of three (RGB); they are all of one size, or ``resize`` is given.

    Args:
        dataset: Owner and name on the hub, such as ``ylecun/mnist``.
        config: The set's configuration, where it has several.
        image: The column of images.
        label: The column of classes: the hub's class labels, integers or strings.
        resize: Height and width of all images, ``[32, 48]``, or a number for a square; see
            :func:`trainoff.datamodules.image_decoding.decode_images`.
        batch_size: See :class:`ImageDataModule`, as for all others.
        microbatches: Parts of each training batch.
        split_seed: The seed of the split.
        val_fraction: The share that validates; None for the split ``validation``, or for 0.2 where there is none.
        test_fraction: The share that tests; None for the split ``test``, or for 0.2 where there is none.
        label_noise: The share of training labels to replace.
        train_samples: Keep only so many training samples.
        replacement: Draw training samples with replacement.
        augmentation: What is done to training batches.

    Raises:
        UserError: Where ``resize`` is no size.
    """

    facts: ClassVar[DataModuleEntry] = HUB_IMAGES

    def __init__(
        self,
        dataset: str,
        config: str | None = None,
        image: str = "image",
        label: str = "label",
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
        self.dataset, self.config, self.image, self.label = dataset, config, image, label
        self.resize = check_resize(resize)
        self.citation = f"https://huggingface.co/datasets/{dataset}"

    def prepare_data(self) -> None:
        """Get, decode and keep the set where it is not kept yet; :class:`UserError` where that is impossible."""
        if any(is_whole_decoded(path) for path in self._paths()):
            return
        try:
            dataset = load_hub_dataset(self.dataset, self.config)
        except HubError as error:
            raise UserError(
                f"{error}; or save its images in a folder for each class and use image_folder", self.dataset
            ) from error
        write_decoded(self._paths()[0], self._decode(dataset))

    def raw_data(self) -> RawData:
        """The images as they are kept."""
        path = next((path for path in self._paths() if path.exists()), None)
        if path is None:
            raise UserError(f"is not in {self._paths()[0].parent}; call prepare_data() first", self.dataset)
        decoded = read_decoded(path)
        self.describe(decoded.splits["train"].images.shape[1:], decoded.class_names)
        self.size_bytes = decoded.size_bytes
        nothing = (None, None)
        splits = decoded.splits
        return RawData(*splits["train"], *splits.get("test", nothing), *splits.get("val", nothing))

    def _paths(self) -> list[Path]:
        """Where the set may be kept; what it was made with is in the name."""
        made_with = json.dumps([self.config, self.image, self.label, self.resize])
        name = f"{self.dataset.replace('/', '___')}-{hashlib.sha256(made_with.encode()).hexdigest()[:8]}.npz"
        return [folder / name for folder in own_folders("hub_images")]

    def _decode(self, dataset: Mapping[str, Any]) -> DecodedImages:
        found = self._splits_of(dataset)
        labels, class_names = self._labels_of(found)
        columns = {name: HubColumn(found[name], self.image, self._where(name)) for name in labels}
        form = common_format([source for column in columns.values() for source in column], self.resize)
        return DecodedImages(
            {
                name: DecodedSplit(decode_images(column, len(column), form), labels[name])
                for name, column in columns.items()
            },
            class_names,
            int(found["train"].info.download_size or 0),
        )

    def _splits_of(self, dataset: Mapping[str, Any]) -> dict[str, Any]:
        found = {
            name: next(dataset[theirs] for theirs in names if theirs in dataset)
            for name, names in _SPLIT_NAMES.items()
            if any(theirs in dataset for theirs in names)
        }
        if not found and len(dataset) == 1:
            return {"train": next(iter(dataset.values()))}
        if "train" not in found:
            raise UserError(f"has no split 'train', only {', '.join(dataset)}", self.dataset)
        return found

    def _labels_of(self, splits: Mapping[str, Any]) -> tuple[dict[str, npt.NDArray[np.int64]], list[str]]:
        """The classes of each split that has labels, counted from 0, and their names."""
        from datasets import ClassLabel

        labels = {}
        for name, split in splits.items():
            check_column(split.features, self.label, self._where(name))
            labels[name] = np.asarray(split[self.label])
            if labels[name].ndim != 1 or labels[name].dtype.kind not in "iuUb":
                raise UserError(f"its column '{self.label}' holds no classes", self._where(name))
        feature = splits["train"].features[self.label]
        if isinstance(feature, ClassLabel):
            values = np.arange(feature.num_classes)
            class_names = list(feature.names)
        else:
            values = np.unique(labels["train"])
            class_names = [str(value) for value in values]
        numbered = {}
        for name, given in labels.items():
            if name != "train" and given.dtype.kind == "i" and (given == -1).all():
                continue
            places = np.searchsorted(values, given).clip(max=len(values) - 1)
            if (unknown := values[places] != given).any():
                raise UserError(f"label {given[unknown][0]} is none of the {len(values)} classes", self._where(name))
            numbered[name] = places.astype(np.int64)
        return numbered, class_names

    def _where(self, split: str) -> str:
        return f"{self.dataset}, split {split}"
