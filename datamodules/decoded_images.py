"""Images that were decoded once, kept as one file: plain arrays and a few facts, nothing pickled."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trainoff.datamodules.image_decoding import Pixels
from trainoff.datamodules.whole_files import write_whole
from trainoff.errors import UserError


class DecodedSplit(NamedTuple):
    """Pixels, uint8 ``(n, channels, height, width)``, and classes, int64 ``(n,)``."""

    images: Pixels
    labels: npt.NDArray[np.int64]


class DecodedImages(NamedTuple):
    """A set of images: its splits, of which ``train`` is always there; the classes' names; bytes of its source."""

    splits: Mapping[str, DecodedSplit]
    class_names: list[str]
    size_bytes: int


def write_decoded(path: Path, decoded: DecodedImages) -> None:
    """Write a set as NumPy's ``.npz``, whose parts bear checksums; all of it or nothing."""
    facts = json.dumps({"class_names": decoded.class_names, "size_bytes": decoded.size_bytes}).encode()
    arrays: dict[str, npt.NDArray[Any]] = {"facts": np.frombuffer(facts, np.uint8)}
    for name, split in decoded.splits.items():
        arrays |= {f"{name}_images": split.images, f"{name}_labels": split.labels}
    write_whole(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]


def read_decoded(path: Path) -> DecodedImages:
    """Read such a file; :class:`UserError` that names it where it is corrupt."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        facts = json.loads(arrays.pop("facts").tobytes())
        splits = {
            name: DecodedSplit(arrays[f"{name}_images"], arrays[f"{name}_labels"])
            for name in ("train", "val", "test")
            if f"{name}_images" in arrays
        }
        return DecodedImages(splits, facts["class_names"], facts["size_bytes"])
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(
            f"is corrupt ({' '.join(str(error).split())}); delete it, and it is made again", str(path)
        ) from error


def is_whole_decoded(path: Path) -> bool:
    """Whether such a file is there to its end; its checksums are compared when it is read."""
    return path.exists() and zipfile.is_zipfile(path)
