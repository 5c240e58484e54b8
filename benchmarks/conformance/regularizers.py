"""Checks of a regularizer, on a recipe with adamw."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from trainoff.benchmarks.conformance.findings import Check, Finding, Misbehaviour, find_target, run_checks
from trainoff.benchmarks.conformance.training import ForeignModule
from trainoff.benchmarks.conformance.training import train as train_once
from trainoff.benchmarks.conformance.training_checks import (
    IS_DETERMINISTIC,
    RESUMES,
    SURVIVES_BF16,
    TRAINS,
    TrainingSubject,
    refuse_difference,
)
from trainoff.datamodules.scikit_learn import Digits
from trainoff.datamodules.tensor_batches import TensorBatches
from trainoff.errors import UserError
from trainoff.modules.recipe import Recipe
from trainoff.modules.regularizers import REGULARIZERS, RegularizerEntry
from trainoff.modules.regularizers.base import Phase
from trainoff.registry import arguments_of

_NET = {"name": "mlp", "hidden": [32]}
_OPTIMIZER = {"name": "adamw", "lr": 3e-3}
_PLACES = ("callback", "optimizer", "net", "loss")


@dataclass
class _Subject(TrainingSubject):
    factory: Callable[..., Any] = Callback

    def new(self) -> Any:
        """The regularizer by itself."""
        return self.factory(**arguments_of(self.choice))

    @property
    def acts_on(self) -> str:
        """As its class says, or the registry's entry; an entry point has no place to say it."""
        entry = REGULARIZERS[self.choice["name"]] if "name" in self.choice else RegularizerEntry("", "")
        return str(getattr(self.factory, "acts_on", entry.acts_on))


def findings(target: str) -> list[Finding]:
    """Check a regularizer, by name or class path; see :func:`trainoff.benchmarks.conformance.check`."""
    choice, factory = find_target(REGULARIZERS, target)
    checks = [
        Check("builds", _builds),
        Check("acts on", _says_where_it_acts, needs=("builds",)),
        TRAINS,
        IS_DETERMINISTIC,
        RESUMES,
        SURVIVES_BF16,
        Check("pickles", _pickles, needs=("builds",)),
        Check("state key", _has_a_stable_state_key, needs=("trains",)),
        Check("leaves data alone", _leaves_data_alone, needs=("builds",)),
        Check("inert elsewhere", _is_inert_elsewhere, needs=("builds",)),
        Check("foreign module", _works_on_a_foreign_module, needs=("acts on",)),
    ]
    recipe = Recipe(_OPTIMIZER, regularizers=[choice])
    return run_checks(checks, _Subject(choice, [recipe], _NET, factory=factory))


def _builds(subject: _Subject) -> str:
    subject.recipes[0].validate()
    regularizer = subject.new()
    given = {key: value for key, value in vars(regularizer).items() if not key.startswith("_")}
    return f"{type(regularizer).__name__}({', '.join(f'{key}={value!r}' for key, value in given.items())})"


def _says_where_it_acts(subject: _Subject) -> str:
    if subject.acts_on not in _PLACES:
        raise Misbehaviour(f"acts_on is '{subject.acts_on}'; it is one of {', '.join(_PLACES)}")
    phase = getattr(subject.factory, "phase", None)
    if not isinstance(phase, Phase):
        raise Misbehaviour("its class has no phase; derive it from trainoff.modules.regularizers.Regularizer")
    return f"{subject.acts_on}, phase {phase.name.lower()}"


def _pickles(subject: _Subject) -> str:
    regularizer = subject.new()
    if pickle.loads(pickle.dumps(regularizer)).state_key != regularizer.state_key:
        raise Misbehaviour("comes out of a pickle with other arguments")
    module = pickle.loads(pickle.dumps(subject.make(subject.recipes[0])))
    if Recipe.of(module.recipe) != subject.recipes[0]:
        raise Misbehaviour("a module with this recipe comes out of a pickle with another one")
    return "it and a module with the recipe come out of a pickle as they went in"


def _has_a_stable_state_key(subject: _Subject) -> str:
    """Checkpoints find a callback's state by this key, so it must be that of the same arguments at any time."""
    first, second = subject.new(), subject.new()
    if first.state_key != second.state_key:
        raise Misbehaviour(f"two with the same arguments have the keys {first.state_key} and {second.state_key}")
    for trained in _regularizers_of(subject.reference.module, subject.factory):
        later = copy.copy(trained)
        vars(later).pop("state_key", None)  # kept from the start; a checkpoint loaded later makes it anew
        for key in (trained.state_key, later.state_key):
            if key != first.state_key:
                raise Misbehaviour(
                    f"{_shortened(first.state_key)} becomes {_shortened(key)} in training; keep what changes in "
                    "attributes that start with '_'"
                )
    return _shortened(first.state_key)


def _shortened(key: str) -> str:
    key = " ".join(key.split())
    return key if len(key) <= 120 else f"{key[:120]}..."


def _regularizers_of(module: L.LightningModule, factory: Any) -> Iterator[Any]:
    for callback in cast("list[Callback]", module.recipe_callbacks):
        if isinstance(factory, type) and isinstance(callback, factory):
            yield callback


class _ViewedDigits(Digits):
    """Digits whose training batches are views of the set, as they are of a full batch: changes in place would stay."""

    def train_dataloader(self) -> TensorBatches:
        """In the order of the set."""
        return TensorBatches(self.split("train"), self.batch_size)


class _BatchesSeen(L.Callback):
    """Keeps what the validation step was given."""

    def __init__(self) -> None:
        self.batches: list[tuple[Tensor, ...]] = []

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """After all that may have changed it."""
        self.batches.append(tuple(tensor.clone() for tensor in batch))


def _leaves_data_alone(subject: _Subject) -> str:
    data = _ViewedDigits()
    before = data.digest()
    seen = _BatchesSeen()
    outcome = train_once(subject.make, subject.recipes[0], lambda: data, callbacks=[seen])
    if data.digest() != before:
        changed = [name for name in ("train", "val", "test") if not _same(data.split(name), Digits().split(name))]
        raise Misbehaviour(
            f"the {' and the '.join(changed)} split is another one after training; return new tensors, since "
            "batches may be views of the set"
        )
    if not all(_same(batch, data.split("val")) for batch in seen.batches):
        raise Misbehaviour("validation batches reach the module changed")
    outcome.trainer.validate(outcome.module, datamodule=data, verbose=False)
    outcome.trainer.test(outcome.module, datamodule=data, verbose=False)
    if data.digest() != before:
        raise Misbehaviour("the data are others after validation and test")
    return f"the set's checksum is the same after fit, validate and test; {len(seen.batches)} validation batches as is"


def _same(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> bool:
    return all(a.shape == b.shape and torch.equal(a.to(b.dtype), b) for a, b in zip(first, second, strict=True))


def _is_inert_elsewhere(subject: _Subject) -> str:
    """A Trainer that fits a second module keeps the callbacks of the first."""
    alone = Recipe(_OPTIMIZER)
    plain = subject.train(alone)
    regularizer = subject.new()
    regularizer.owner = "the id of another module"
    beside = subject.train(alone, callbacks=[regularizer])
    refuse_difference(
        plain.parameters,
        beside.parameters,
        "it acts on a module that is not its own (derive it from trainoff.modules.regularizers.Regularizer): "
        "trainings with and without it end",
    )
    return "another module trains beside it as without it"


def _works_on_a_foreign_module(subject: _Subject) -> str:
    optional = subject.acts_on in ("net", "loss")
    try:
        outcome = train_once(lambda recipe: recipe.apply(ForeignModule()), subject.recipes[0])
    except UserError as error:
        if optional:
            return f"refused in one line, as one that acts on {subject.acts_on} may: {error}"
        raise Misbehaviour(f"{error} (one that needs a place in the net or the loss says acts_on)") from error
    if not outcome.falls:
        raise Misbehaviour(str(outcome))
    return f"{outcome} on a LightningModule that knows nothing of recipes"
