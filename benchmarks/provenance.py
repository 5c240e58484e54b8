"""Digests of what a trial's numbers depend on beside its setting: the data, and the sources of named classes."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Iterator, Mapping, Sized
from pathlib import Path
from typing import Any

import lightning as L

from trainoff.benchmarks.data_digest import digest_loaders
from trainoff.datamodules.registry import DATAMODULES
from trainoff.errors import UserError
from trainoff.modules.initialisation import INITIALISATIONS
from trainoff.modules.nets import NETS
from trainoff.modules.optimizers import OPTIMIZERS
from trainoff.modules.pruning import PRUNING
from trainoff.modules.registry import MODULES
from trainoff.modules.regularizers import REGULARIZERS
from trainoff.modules.schedules import SCHEDULES
from trainoff.registry import Entry, Registry, import_class

_REGISTRIES: tuple[Registry[Entry], ...] = (
    MODULES,
    NETS,
    DATAMODULES,
    OPTIMIZERS,
    SCHEDULES,
    REGULARIZERS,
    PRUNING,
    INITIALISATIONS,
)
_CHECKPOINTS = (".ckpt", ".pt", ".pth")


def source_digests(*configs: Any) -> dict[str, str]:
    """SHA-256 of the source of each class that the given plain data names by ``class_path``, or by the name that an
    installed package registered; and of each checkpoint that they name by its path, such as a teacher's.

    Of the whole file for an importable class, since its neighbours count too; of the class alone for one of the
    running script or notebook, where the rest is the script's own business.

    Raises:
        UserError: For a class path that cannot be imported.
    """
    paths = sorted({path for config in configs for path in _class_paths(config)})
    digests = {path: hashlib.sha256(_source(import_class(path)).encode()).hexdigest() for path in paths}
    for path in sorted({path for config in configs for path in _checkpoints(config)}):
        state = Path(path).stat()
        digests[path] = _file_digest(path, state.st_mtime_ns, state.st_size)
    return digests


def _checkpoints(node: Any) -> Iterator[str]:
    if isinstance(node, str) and node.endswith(_CHECKPOINTS) and Path(node).is_file():
        yield node
    elif isinstance(node, (Mapping, list, tuple)):
        for value in node.values() if isinstance(node, Mapping) else node:
            yield from _checkpoints(value)


@functools.lru_cache(maxsize=256)
def _file_digest(path: str, changed: int, size: int) -> str:
    """Of a file as it was last changed; large ones are named by many recipes."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _class_paths(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if isinstance(node.get("class_path"), str):
            yield node["class_path"]
        if isinstance(node.get("name"), str):
            yield from _plugin_paths(node["name"])
        for value in node.values():
            yield from _class_paths(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _class_paths(value)


def _plugin_paths(name: str) -> Iterator[str]:
    for registry in _REGISTRIES:
        if name in registry and registry[name].package:
            yield registry[name].target.replace(":", ".")


def _source(thing: Any) -> str:
    module = inspect.getmodule(thing)
    try:
        if module is None or module.__name__ == "__main__" or module.__file__ is None:
            return inspect.getsource(thing)
        return Path(module.__file__).read_text(encoding="utf-8")
    except (OSError, TypeError, UnicodeDecodeError):
        # `python -c` and compiled classes have no source; their code objects are the next best thing.
        return _bytecode(thing)


def _bytecode(thing: Any) -> str:
    functions = (
        [value for value in vars(thing).values() if inspect.isfunction(value)] if inspect.isclass(thing) else []
    )
    parts = [f"{f.__qualname__}{f.__code__.co_code.hex()}{f.__code__.co_consts!r}" for f in functions]
    return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', repr(thing))}" + "".join(parts)


def data_digest(datamodule: L.LightningDataModule) -> str:
    """What the DataModule says of its data by a method ``digest()``, else that of its loaders' data sets.

    Empty where they cannot be hashed.
    """
    digest = getattr(datamodule, "digest", None)
    return str(digest()) if callable(digest) else digest_loaders(datamodule)


def train_size(datamodule: L.LightningDataModule) -> int | None:
    """Samples in the training split, where they can be counted without iterating."""
    loader = datamodule.train_dataloader()
    dataset = getattr(loader, "dataset", None)
    if isinstance(dataset, Sized):
        return len(dataset)
    split = getattr(datamodule, "split", None)
    return len(split("train")[0]) if callable(split) else None


def check_batch(batch: object, microbatches: int, size: int | None) -> None:
    """Refuse a batch larger than the training split.

    Raises:
        UserError: Naming both numbers.
    """
    if size is None:
        return
    if isinstance(batch, int) and batch > size:
        raise UserError(f"a batch of {batch} samples; the training split has {size}", "batch")
    if microbatches > size:
        raise UserError(f"{microbatches} parts of {size} training samples", "microbatches")
