"""The base of the well-known image sets: files of the set's own format, in a folder or made once from the hub."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from trainoff.datamodules.hub import HubError, load_hub_dataset, own_folders
from trainoff.datamodules.image_datamodule import ImageDataModule
from trainoff.datamodules.splits import RawData
from trainoff.errors import UserError


class DownloadedImages(ImageDataModule):
    """A set of images with an official test split, whose files are looked for in several folders.

    The files are read from the first of these folders that has them all: ``folder``; ``$TRAINOFF_DATA/<name>``;
    where a package of the system puts them; ``~/.cache/trainoff/<name>``. Where none has, :meth:`prepare_data` gets
    the set once from the hub, or from the cache of ``datasets``, and keeps it in the format of these files in the
    second folder, or in the last where ``TRAINOFF_DATA`` is not set. A file there that is shorter than it should be
    is made again.

    Args:
        folder: The folder of the files; no other is then looked at, and the hub is not asked.
        batch_size: See :class:`ImageDataModule`, as for all others.
        microbatches: Parts of each training batch.
        split_seed: The seed of the split.
        val_fraction: The share of the official training split that validates; by default ``default_val_fraction``.
        label_noise: The share of training labels to replace.
        train_samples: Keep only so many training samples.
        replacement: Draw training samples with replacement.
        augmentation: What is done to training batches.
    """

    title: ClassVar[str]  # what messages call the set
    hub_name: ClassVar[str]
    file_names: ClassVar[tuple[str, ...]]
    alternative: ClassVar[str]  # how else to get the files, for the message that they are missing
    system_folder: ClassVar[Path | None] = None
    default_val_fraction: ClassVar[float]

    def __init__(
        self,
        folder: str | None = None,
        batch_size: int | Literal["full"] = 128,
        microbatches: int = 1,
        split_seed: int = 0,
        val_fraction: float | None = None,
        label_noise: float = 0.0,
        train_samples: int | None = None,
        replacement: bool = False,
        augmentation: list[str | dict[str, Any]] | None = None,
    ) -> None:
        share = self.default_val_fraction if val_fraction is None else val_fraction
        given = batch_size, microbatches, split_seed, share, None, label_noise, train_samples, replacement
        super().__init__(*given, augmentation)
        self.folder = folder

    @abstractmethod
    def read_folder(self, folder: Path) -> RawData:
        """Read the files of a folder; :class:`UserError` that names one that is missing, truncated or corrupt."""

    @abstractmethod
    def write_folder(self, dataset: Mapping[str, Any], folder: Path) -> None:
        """Decode a set in the hub's layout and write it as the files that :meth:`read_folder` reads."""

    @abstractmethod
    def is_whole(self, path: Path) -> bool:
        """Whether a file is as long as it should be."""

    def prepare_data(self) -> None:
        """Get the files from the hub where no folder has them; :class:`UserError` where that is impossible."""
        if self.folder is not None:
            return
        found, own = self._find_folder(), own_folders(self.facts.name)
        broken = [path for path in self._paths(found) if not self.is_whole(path)] if found in own else []
        if found is not None and not broken:
            return
        try:
            dataset = load_hub_dataset(self.hub_name)
        except HubError as error:
            if broken:
                raise UserError(
                    f"is truncated, and {error}; delete it, or get the file again", str(broken[0])
                ) from error
            raise self._missing(f"{error}; ") from error
        if missing := {"train", "test"} - set(dataset):
            raise UserError(f"has no split '{min(missing)}', only {', '.join(dataset)}", self.hub_name)
        self.write_folder(dataset, found or own[0])

    def raw_data(self) -> RawData:
        """The pixels as uint8, and the classes."""
        folder = Path(self.folder).expanduser() if self.folder is not None else self._find_folder()
        if folder is None:
            raise self._missing("call prepare_data() first, or: ")
        return self.read_folder(folder)

    def _find_folder(self) -> Path | None:
        own = own_folders(self.facts.name)
        system = [] if self.system_folder is None else [self.system_folder]
        # what the user names comes before the system's copy, our cache after it
        folders = [*own[:-1], *system, own[-1]]
        return next((folder for folder in folders if all(path.exists() for path in self._paths(folder))), None)

    @classmethod
    def _paths(cls, folder: Path | None) -> list[Path]:
        return [] if folder is None else [cls._path(folder, name) for name in cls.file_names]

    @classmethod
    def _path(cls, folder: Path, name: str) -> Path:
        return folder / name

    def _missing(self, reason: str) -> UserError:
        message = f"no files of {self.title} were found: {reason}{self.alternative} into "
        return UserError(f"{message}{own_folders(self.facts.name)[0]}, or pass folder=", self.facts.name)
