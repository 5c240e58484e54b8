"""A digest of the data of a DataModule that gives none of its own, so that changed data make new trials.

Items are read by their index, so neither the order nor the batches count. Random transforms are read with the same
random numbers each time.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sized
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import IterableDataset, Subset, TensorDataset

_ALL_BYTES = 64 * 2**20  # a larger data set is represented by a sample
_ALL_ITEMS = 100_000
_SAMPLE = 1000
_READ_TWICE = 32  # a flip by chance agrees with itself half the time

_PLAIN = (str, bytes, bool, int, float, complex, type(None))


class _Unknown(Exception):
    """There is something of which no digest is sure."""


def digest_loaders(datamodule: L.LightningDataModule) -> str:
    """SHA-256 of what the loaders' data sets hold; empty where no split can be hashed.

    A split that cannot be hashed counts by its length, or not at all: one without items by index, with items that are
    not made of tensors, arrays, numbers and text, or with items that differ each time they are read.

    Args:
        datamodule: Set up for ``fit``; is set up for ``test`` where its test loader asks for it.
    """
    with fixed_randomness():
        splits = {
            "train": _digests(datamodule.train_dataloader),
            "val": _digests(datamodule.val_dataloader),
            "test": _digests(datamodule.test_dataloader) or _digests_after_setup(datamodule),
        }
    if not any(known for split in splits.values() for _, known in split):
        return ""
    return hashlib.sha256(repr(splits).encode()).hexdigest()


@contextlib.contextmanager
def fixed_randomness() -> Iterator[None]:
    """The same random numbers for whoever draws from a global generator, whose state is put back afterwards."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    _seed()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def _seed() -> None:
    torch.default_generator.manual_seed(0)  # torch.manual_seed would seed accelerators, which nobody puts back
    np.random.seed(0)
    random.seed(0)


def _digests_after_setup(datamodule: L.LightningDataModule) -> list[tuple[int, str]]:
    def loaders() -> Any:
        datamodule.setup("test")
        return datamodule.test_dataloader()

    return _digests(loaders)


def _digests(loaders: Callable[[], Any]) -> list[tuple[int, str]]:
    """Length and digest of each data set behind a split; the digest is empty where there is none."""
    try:
        return [(len(dataset), _digest(dataset)) for dataset in _datasets(loaders())]
    except Exception:  # the user's code, which may lack this split; what training needs is checked elsewhere
        return []


def _datasets(loaders: Any) -> Iterator[Any]:
    if isinstance(loaders, Mapping):
        loaders = list(loaders.values())
    if isinstance(loaders, (list, tuple)):
        for loader in loaders:
            yield from _datasets(loader)
        return
    dataset = getattr(loaders, "dataset", None)
    if isinstance(dataset, Sized):
        yield dataset


def _digest(dataset: Any) -> str:
    state = hashlib.sha256()
    try:
        _add_dataset(state, dataset)
    except Exception:  # the user's code again: what cannot be read here counts as unknown
        return ""
    return state.hexdigest()


def _add_dataset(state: Any, dataset: Any) -> None:
    if isinstance(dataset, TensorDataset):
        for tensor in dataset.tensors:
            _add(state, tensor)
    elif isinstance(dataset, Subset):
        _add(state, np.asarray(dataset.indices))
        _add_dataset(state, dataset.dataset)
    elif isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
        raise _Unknown
    else:
        _add_items(state, dataset)


def _add_items(state: Any, dataset: Any) -> None:
    chosen = _chosen_items(dataset)
    again = chosen[:_READ_TWICE]
    if _digest_of_items(dataset, again) != _digest_of_items(dataset, again):
        raise _Unknown
    state.update(_digest_of_items(dataset, chosen))


def _digest_of_items(dataset: Any, indices: list[int]) -> bytes:
    state = hashlib.sha256()
    _seed()
    for index in indices:
        _add(state, dataset[index])
    return state.digest()


def _chosen_items(dataset: Any) -> list[int]:
    """All indices where that is cheap, else evenly spaced ones."""
    length = len(dataset)
    if length == 0:
        return []
    size = _Count()
    _add(size, dataset[0])
    if length <= _ALL_ITEMS and length * size.bytes <= _ALL_BYTES:
        return list(range(length))
    count = min(_SAMPLE, length)
    return [position * (length - 1) // max(count - 1, 1) for position in range(count)]


class _Count:
    """Counts bytes where a hash would take them."""

    def __init__(self) -> None:
        self.bytes = 0

    def update(self, data: Any) -> None:
        self.bytes += memoryview(data).nbytes


def _add(state: Any, value: Any) -> None:
    """Add a value with its type and shape.

    Raises:
        _Unknown: For one whose bytes are not known to say all of it.
    """
    if isinstance(value, torch.Tensor):
        state.update(f"tensor {value.dtype} {tuple(value.shape)} ".encode())
        state.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    elif isinstance(value, (np.ndarray, np.generic)) and value.dtype.hasobject is False:
        state.update(f"array {value.dtype.str} {value.shape} ".encode())
        state.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, _PLAIN):
        state.update(f"{type(value).__name__} {value!r} ".encode())
    elif isinstance(value, (list, tuple)):
        state.update(f"sequence {len(value)} ".encode())
        for part in value:
            _add(state, part)
    elif isinstance(value, Mapping):
        state.update(f"mapping {len(value)} ".encode())
        for key, part in value.items():
            _add(state, key)
            _add(state, part)
    else:
        raise _Unknown
