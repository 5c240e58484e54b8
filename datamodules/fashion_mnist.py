"""Fashion-MNIST, from idx files or from the Hugging Face hub."""

from __future__ import annotations

import os
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from trainoff.datamodules.idx_files import read_idx, write_idx
from trainoff.datamodules.registry import FASHION_MNIST, DataModuleEntry
from trainoff.datamodules.splits import RawData
from trainoff.datamodules.tensor_datamodule import TensorDataModule
from trainoff.errors import UserError

_HUB_NAME = "zalando-datasets/fashion_mnist"
_DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist
_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_CONNECT_SECONDS = 2.0


class FashionMNIST(TensorDataModule):
    """60,000 + 10,000 grey images of 28 x 28 of clothing in 10 classes; inputs ``(1, 28, 28)``.

    The images are read from the four idx files (plain or ``.gz``) of the first of these folders that has them:
    ``folder``; ``$TRAINOFF_DATA/fashion_mnist``; ``/usr/share/datasets/fashion-mnist`` (Debian's package
    ``dataset-fashion-mnist``); ``~/.cache/trainoff/fashion_mnist``. Where none has, :meth:`prepare_data` gets them
    once from the hub (``zalando-datasets/fashion_mnist``, or the copy in the cache of ``datasets``) and keeps them
    as idx files in the second folder, or in the last where ``TRAINOFF_DATA`` is not set.

    Args:
        folder: The folder of the idx files; no other is then looked at, and the hub is not asked.
        batch_size: See :class:`TensorDataModule`, as for all others.
        microbatches: Parts of each training batch.
        split_seed: The seed of the split.
        val_fraction: The share of the official 60,000 that validates; by default 10,000 of them.
        label_noise: The share of training labels to replace.
        train_samples: Keep only so many training samples.
        replacement: Draw training samples with replacement.

    Source: Xiao, Rasul and Vollgraf 2017, Fashion-MNIST, arXiv:1708.07747.
    """

    facts: ClassVar[DataModuleEntry] = FASHION_MNIST

    def __init__(
        self,
        folder: str | None = None,
        batch_size: int | Literal["full"] = 128,
        microbatches: int = 1,
        split_seed: int = 0,
        val_fraction: float = 1 / 6,
        label_noise: float = 0.0,
        train_samples: int | None = None,
        replacement: bool = False,
    ) -> None:
        super().__init__(
            batch_size, microbatches, split_seed, val_fraction, None, label_noise, train_samples, replacement
        )
        self.folder = folder

    def prepare_data(self) -> None:
        """Get the files from the hub where no folder has them; :class:`UserError` where that is impossible."""
        if self.folder is None and _find_folder() is None:
            store_hub_dataset(_hub_dataset(), _own_folders()[0])

    def raw_data(self) -> RawData:
        """Grey levels from 0 to 255 as uint8, and the classes."""
        folder = Path(self.folder).expanduser() if self.folder is not None else _find_folder()
        if folder is None:
            raise _missing("call prepare_data() first, or: ")
        return read_folder(folder)


def read_folder(folder: Path) -> RawData:
    """Read the four idx files of a folder.

    Raises:
        UserError: Naming the file that is missing, truncated, corrupt, or at odds with its partner.
    """
    paths = [_idx_path(folder, name) for name in _FILES]
    arrays = [read_idx(path) for path in paths]
    for images, labels, path in ((arrays[0], arrays[1], paths[0]), (arrays[2], arrays[3], paths[2])):
        if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1] or (labels >= 10).any():
            raise UserError(
                f"images of shape {images.shape} and labels of shape {labels.shape} are not Fashion-MNIST's", str(path)
            )
    return RawData(arrays[0][:, None], arrays[1].astype(np.int64), arrays[2][:, None], arrays[3].astype(np.int64))


def store_hub_dataset(dataset: Mapping[str, Any], folder: Path) -> None:
    """Write a data set in the hub's layout as idx files, so that its images are decoded once and for all.

    Args:
        dataset: The splits ``train`` and ``test`` of the columns ``image`` and ``label``.
        folder: Where to write.
    """
    for part, split in (("train", dataset["train"]), ("t10k", dataset["test"])):
        images: npt.NDArray[np.uint8] = np.empty((len(split), 28, 28), np.uint8)
        start = 0
        for rows in split.iter(batch_size=1000):
            for offset, image in enumerate(rows["image"]):
                images[start + offset] = image
            start += len(rows["image"])
        write_idx(folder / f"{part}-images-idx3-ubyte", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte", np.array(split["label"], np.uint8))


def _idx_path(folder: Path, name: str) -> Path:
    plain = folder / name
    return plain if plain.exists() else folder / f"{name}.gz"


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()


def _own_folders() -> list[Path]:
    data = os.environ.get("TRAINOFF_DATA")
    named = [Path(data).expanduser() / "fashion_mnist"] if data else []
    return [*named, _cache() / "trainoff" / "fashion_mnist"]


def _find_folder() -> Path | None:
    own = _own_folders()
    # what the user names comes before the system's copy, our cache after it
    folders = [*own[:-1], _DEBIAN_FOLDER, own[-1]]
    return next((folder for folder in folders if all(_idx_path(folder, name).exists() for name in _FILES)), None)


def _hub_dataset() -> Mapping[str, Any]:
    if _hub_answers():
        from datasets import load_dataset

        try:
            loaded: Mapping[str, Any] = load_dataset(_HUB_NAME)
        except OSError as error:  # what `datasets` raises for a refusal, a lost connection, a full disk
            raise _missing(f"the hub failed ({' '.join(str(error).split())}); ") from error
        return loaded
    return _cached_hub_dataset()


def _cached_hub_dataset() -> Mapping[str, Any]:
    """The copy that ``datasets`` keeps, read as files: its own loader asks the hub first, for 23 s of retries."""
    home = os.environ.get("HF_HOME") or _cache() / "huggingface"
    cache = Path(os.environ.get("HF_DATASETS_CACHE") or Path(home) / "datasets").expanduser()
    found = {
        part: sorted(cache.glob(f"{_HUB_NAME.replace('/', '___')}/*/*/*/fashion_mnist-{part}.arrow"))
        for part in ("train", "test")
    }
    if not all(found.values()):
        raise _missing("the hub cannot be reached; ")
    from datasets import Dataset

    return {part: Dataset.from_file(str(paths[-1])) for part, paths in found.items()}


def _missing(reason: str) -> UserError:
    return UserError(
        f"no files of Fashion-MNIST were found: {reason}install Debian's package dataset-fashion-mnist, or put the "
        f"four idx files ({_FILES[0]}.gz, ...) into {_own_folders()[0]}, or pass folder=",
        "fashion_mnist",
    )


def _hub_answers() -> bool:
    """Whether the hub, or the proxy on the way to it, accepts a connection within two seconds."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return False
    url = urllib.parse.urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    proxy = urllib.request.getproxies().get(url.scheme)
    if proxy and not urllib.request.proxy_bypass(url.hostname or ""):
        url = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    address = (url.hostname or "", url.port or (443 if url.scheme == "https" else 80))
    answers = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection(address, timeout=_CONNECT_SECONDS).close()
        except OSError:
            return
        answers.set()

    # in a thread, as looking up a host's address has no time limit
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(_CONNECT_SECONDS)
    return answers.is_set()
