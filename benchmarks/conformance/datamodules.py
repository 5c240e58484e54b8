"""Checks of a DataModule."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import pickle
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor

from trainoff.benchmarks.conformance.findings import (
    Check,
    Finding,
    Misbehaviour,
    NotOffered,
    find_target,
    one_line,
    run_checks,
)
from trainoff.benchmarks.randomness import seed_everything
from trainoff.benchmarks.task_building import build_datamodule
from trainoff.datamodules.registry import DATAMODULES

_SPLITS = ("train", "val", "test")
_HELD_OUT = ("val", "test")
_BATCH = 7  # of training samples; nobody's default
# What Lightning's own hooks raise where a split is not implemented, and what others do.
_DECLINES = (MisconfigurationException, NotImplementedError)
# Two samples of a source may well be equal; more of them than this share is a leak.
_EQUAL_SHARE = 0.01


@dataclass
class _Subject:
    choice: dict[str, Any]
    factory: Callable[..., Any]

    def new(self, seed: int = 0) -> L.LightningDataModule:
        """One with its defaults, under a global seed of its own, before its data are there."""
        seed_everything(seed)
        return build_datamodule(self.choice)

    def ready(self, seed: int = 0) -> L.LightningDataModule:
        """One with its data."""
        datamodule = self.new(seed)
        datamodule.prepare_data()
        _set_up(datamodule)
        return datamodule

    @functools.cached_property
    def not_offered(self) -> dict[str, str]:
        """The held-out splits that it says it has not, with how it says so."""
        datamodule = self.ready()
        reasons = ((name, _why_not_offered(datamodule, name)) for name in _HELD_OUT)
        return {name: reason for name, reason in reasons if reason}

    @property
    def offered(self) -> list[str]:
        """The other splits."""
        return [name for name in _SPLITS if name not in self.not_offered]

    @functools.cached_property
    def splits(self) -> dict[str, list[str]]:
        """Digests of the samples of each split, in the order in which its loader gives them."""
        return _all_samples(self.ready(), self.offered)


def _set_up(datamodule: L.LightningDataModule) -> None:
    datamodule.setup("fit")
    with contextlib.suppress(*_DECLINES):  # the test loader then says the same
        datamodule.setup("test")


def _why_not_offered(datamodule: L.LightningDataModule, name: str) -> str:
    """How a DataModule says that it has no such split; empty where it has one, or fails in another way."""
    loader = f"{name}_dataloader"
    if getattr(type(datamodule), loader) is getattr(L.LightningDataModule, loader):
        return f"has no {loader}"
    try:
        found = getattr(datamodule, loader)()
    except _DECLINES as error:
        return f"{loader} raises {one_line(error)}"
    except Exception:  # its own check tells it
        return ""
    return f"{loader} gives an empty list" if found == [] else ""


def findings(target: str) -> list[Finding]:
    """Check a DataModule, by name or class path; see :func:`trainoff.benchmarks.conformance.check`."""
    choice, factory = find_target(DATAMODULES, target)
    checks = [
        Check("builds", _builds),
        Check("random state", _leaves_the_random_state, needs=("builds",)),
        Check("loaders", _has_loaders, needs=("builds",)),
        *[Check(f"{name} split", functools.partial(_offers, name=name), needs=("builds",)) for name in _HELD_OUT],
        Check("sizes", _says_its_sizes, needs=("loaders",)),
        Check("setup twice", _sets_up_twice, needs=("loaders",)),
        Check("equal instances", _makes_equal_splits, needs=("loaders",)),
        Check("evaluates each sample once", _evaluates_each_sample_once, needs=("loaders",)),
        Check("splits disjoint", _splits_are_disjoint, needs=("loaders",)),
        Check("batch size", _takes_a_batch_size, needs=("loaders",)),
        Check("pickles", _pickles, needs=("loaders",)),
    ]
    return run_checks(checks, _Subject(choice, factory))


def _builds(subject: _Subject) -> str:
    return f"{type(subject.ready()).__name__} with its defaults, data and all"


def _leaves_the_random_state(subject: _Subject) -> str:
    """Of torch, numpy and Python: what setup draws would change the weights that are drawn after it."""
    datamodule = subject.new()
    datamodule.prepare_data()
    before = _random_states()
    datamodule.setup("fit")
    changed = [name for name, state in _random_states().items() if state != before[name]]
    if changed:
        raise Misbehaviour(f"setup draws from the global generator of {' and '.join(changed)}; give it one of its own")
    return "setup leaves the generators of torch, numpy and Python as they were"


def _random_states() -> dict[str, bytes]:
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": pickle.dumps(np.random.get_state()),
        "Python": pickle.dumps(random.getstate()),
    }


def _has_loaders(subject: _Subject) -> str:
    datamodule = subject.ready()
    counts = []
    for name in subject.offered:
        batch = next(iter(_loader(datamodule, name)), None)
        if batch is None:
            raise Misbehaviour(f"{name}_dataloader yields no batch")
        if next(_tensors(batch), None) is None:
            raise Misbehaviour(f"{name}_dataloader yields {type(batch).__name__} without a tensor in it")
        counts.append(f"{name} {len(subject.splits[name])}")
    return f"samples: {', '.join(counts)}"


def _offers(subject: _Subject, name: str) -> str:
    if name in subject.not_offered:
        raise NotOffered(f"{subject.not_offered[name]}; a suite chooses settings on validation and reports on test")
    return f"has a {name}_dataloader"


def _says_its_sizes(subject: _Subject) -> str:
    datamodule = subject.ready()
    shape = getattr(datamodule, "input_shape", None)
    classes = getattr(datamodule, "num_classes", None)
    size = getattr(datamodule, "output_size", None) or classes
    missing = [name for name, value in (("input_shape", shape), ("output_size or num_classes", size)) if value is None]
    if missing:
        raise Misbehaviour(f"has no {' and no '.join(missing)}; a net given by name takes its sizes from there")
    inputs, *others = _tensors(next(iter(_loader(datamodule, subject.offered[-1]))))
    if tuple(inputs.shape[1:]) != tuple(cast("tuple[int, ...]", shape)):
        raise Misbehaviour(f"input_shape is {tuple(cast(Any, shape))}, a sample's is {tuple(inputs.shape[1:])}")
    if classes is not None and others and not others[-1].is_floating_point():
        labels = torch.cat([list(_tensors(batch))[-1].flatten() for batch in _loader(datamodule, "train")])
        if int(labels.min()) < 0 or int(labels.max()) >= classes:
            raise Misbehaviour(f"labels from {int(labels.min())} to {int(labels.max())}, but {classes} classes")
    return f"inputs {tuple(inputs.shape[1:])}, {size} outputs"


def _sets_up_twice(subject: _Subject) -> str:
    """Lightning calls setup for fit, validate and test, on one instance."""
    datamodule = subject.ready()
    first = _all_samples(datamodule, subject.offered)
    _set_up(datamodule)
    _refuse_other_splits(first, datamodule, "a second setup")
    return "a second setup changes no split"


def _makes_equal_splits(subject: _Subject) -> str:
    """Under two global seeds: the seed of a trial varies the weights and the order, never the split."""
    other = subject.ready(seed=1)
    _refuse_other_splits(subject.splits, other, "another instance, under another global seed,")
    digest, reference = (getattr(datamodule, "digest", None) for datamodule in (other, subject.ready()))
    if digest is None or reference is None:
        return "two instances under two global seeds; no digest(), so a change of the data makes no new trials"
    if digest() != reference():
        raise Misbehaviour("digest() differs between two instances with the same data")
    return f"two instances under two global seeds; digest {str(digest())[:12]}"


def _refuse_other_splits(first: Mapping[str, list[str]], datamodule: L.LightningDataModule, what: str) -> None:
    for name, before in first.items():
        if Counter(_samples(datamodule, name)) != Counter(before):
            raise Misbehaviour(f"{what} has other {name} samples")


def _evaluates_each_sample_once(subject: _Subject) -> str:
    datamodule = subject.ready()
    notes = []
    for name in subject.offered[1:]:
        samples = _samples(datamodule, name)
        again = _samples(datamodule, name)
        if samples != again:
            raise Misbehaviour(f"two passes over {name}_dataloader give other samples, or another order")
        size = _size(datamodule, name)
        if size is None:
            notes.append(f"{name} {len(samples)} (its set cannot be counted)")
        elif size != len(samples):
            raise Misbehaviour(f"{name}_dataloader yields {len(samples)} samples of {size}")
        else:
            most, count = Counter(samples).most_common(1)[0]
            if count > max(2, _EQUAL_SHARE * len(samples)):
                raise Misbehaviour(f"{name}_dataloader yields one sample {count} times (digest {most[:8]})")
            notes.append(f"{name} {len(samples)} of {size}")
    if not notes:
        raise NotOffered("there is no split to evaluate on")
    return ", ".join(notes)


def _size(datamodule: L.LightningDataModule, name: str) -> int | None:
    loader = _loader(datamodule, name)
    dataset = getattr(loader, "dataset", None)
    if hasattr(dataset, "__len__"):
        return len(cast(Any, dataset))
    size = getattr(loader, "samples", None)
    return size if isinstance(size, int) else None


def _splits_are_disjoint(subject: _Subject) -> str:
    """By the inputs' bytes: labels may be noisy. Random augmentation hides what is shared."""
    shared = []
    pairs = list(itertools.combinations(subject.offered, 2))
    if not pairs:
        raise NotOffered("there is one split only")
    for first, second in pairs:
        others = set(subject.splits[first])
        count = sum(sample in others for sample in subject.splits[second])
        if count > _EQUAL_SHARE * len(subject.splits[second]):
            raise Misbehaviour(f"{count} of {len(subject.splits[second])} {second} samples are {first} samples too")
        if count:
            shared.append(f"{count} in both {first} and {second}, as equal samples of the source may be")
    return "; ".join(shared) or "no sample is in two splits"


def _takes_a_batch_size(subject: _Subject) -> str:
    datamodule = subject.ready()
    if not hasattr(datamodule, "batch_size"):
        raise Misbehaviour("has no attribute batch_size, so a recipe's batch cannot be set")
    present = datamodule.batch_size
    datamodule.batch_size = _BATCH
    size = len(next(_tensors(next(iter(_loader(datamodule, "train"))))))
    if size != _BATCH:
        raise Misbehaviour(f"with batch_size set to {_BATCH} a training batch still has {size} samples")
    return f"{present} by default, {_BATCH} once set"


def _pickles(subject: _Subject) -> str:
    """Before and after its data are there: strategies that spawn processes send it either way."""
    ready = pickle.loads(pickle.dumps(subject.ready()))
    _refuse_other_splits(subject.splits, ready, "out of a pickle it")
    fresh = pickle.loads(pickle.dumps(subject.new()))
    fresh.prepare_data()
    _set_up(fresh)
    _refuse_other_splits(subject.splits, fresh, "set up once out of a pickle it")
    return "the same splits out of a pickle, set up before or after"


def _loader(datamodule: L.LightningDataModule, name: str) -> Any:
    return getattr(datamodule, f"{name}_dataloader")()


def _all_samples(datamodule: L.LightningDataModule, names: Sequence[str]) -> dict[str, list[str]]:
    return {name: _samples(datamodule, name) for name in names}


def _samples(datamodule: L.LightningDataModule, name: str) -> list[str]:
    """A digest of each sample's inputs, in the order of one pass."""
    seed_everything(0)  # the order is not the question
    return [
        hashlib.sha256(sample.contiguous().flatten().view(torch.uint8).numpy().tobytes()).hexdigest()
        for batch in _loader(datamodule, name)
        for sample in next(_tensors(batch)).detach().cpu()
    ]


def _tensors(batch: Any) -> Iterator[Tensor]:
    """The tensors of a batch of any make, depth first: inputs come before targets by convention."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from _tensors(value)
    elif isinstance(batch, (list, tuple)):
        for value in batch:
            yield from _tensors(value)
