"""Checks of an optimizer."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from trainoff.benchmarks.conformance.findings import (
    Check,
    Finding,
    Misbehaviour,
    NotOffered,
    find_target,
    one_line,
    run_checks,
)
from trainoff.benchmarks.conformance.training import BATCH
from trainoff.benchmarks.conformance.training_checks import (
    IS_DETERMINISTIC,
    RESUMES,
    SURVIVES_BF16,
    TRAINS,
    TrainingSubject,
)
from trainoff.benchmarks.randomness import seed_everything
from trainoff.errors import UserError
from trainoff.modules.classifier import Classifier
from trainoff.modules.optimizer_building import build_optimizer, optimizer_entry
from trainoff.modules.optimizers import OPTIMIZERS
from trainoff.modules.recipe import Recipe

_NET = {"name": "mlp", "hidden": [32]}
_SCALES = (1.0, 10.0, 0.1, 100.0)  # of the default rate, in the order in which they are tried
_RATE = 1e-3  # where there is no default, and the rate is the user's to choose
_GROUP = "net.output.*"
_GROUP_SCALE = 0.1
_STEPS = 20  # the first ones move nothing where an optimizer waits for ten gradients, or warms up


def findings(target: str) -> list[Finding]:
    """Check an optimizer, by name or class path; see :func:`trainoff.benchmarks.conformance.check`."""
    choice, factory = find_target(OPTIMIZERS, target)
    checks = [
        Check("builds", _builds),
        TRAINS,
        IS_DETERMINISTIC,
        RESUMES,
        SURVIVES_BF16,
        Check("pickles", _state_pickles, needs=("trains",)),
        Check("parameter groups", _takes_groups, needs=("trains",)),
    ]
    batch: int | Literal["full"] = "full" if _repeats_its_closure(factory) else BATCH
    return run_checks(checks, TrainingSubject(choice, _recipes(choice, factory), _NET, batch=batch))


def _repeats_its_closure(factory: Any) -> bool:
    """Whether a step needs a closure, as LBFGS' does: it compares losses, which have to be of the same samples."""
    step = getattr(factory, "step", None)
    closure = None if step is None else inspect.signature(step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def _recipes(choice: dict[str, Any], factory: Any) -> list[Recipe]:
    """With the default rate, then with others, since many a library's default suits other tasks."""
    try:
        rate = inspect.signature(factory).parameters.get("lr")
    except (TypeError, ValueError):  # not callable, or without a signature: the first check will say so
        rate = None
    if rate is None:
        return [Recipe(choice)]
    has_default = isinstance(rate.default, (int, float))
    default = optimizer_entry(choice).learning_rate or (rate.default if has_default else _RATE)
    first = Recipe(choice) if has_default else Recipe(_with_rate(choice, _RATE))
    return [first, *(Recipe(_with_rate(choice, default * scale)) for scale in _SCALES[1:])]


def _with_rate(choice: dict[str, Any], rate: float) -> dict[str, Any]:
    if "class_path" in choice:
        return {**choice, "init_args": {**choice["init_args"], "lr": rate}}
    return {**choice, "lr": rate}


def _builds(subject: TrainingSubject) -> str:
    factory = OPTIMIZERS.load(subject.choice)
    if not callable(factory) or (inspect.isclass(factory) and not issubclass(factory, Optimizer)):
        what = getattr(factory, "__name__", repr(factory))
        raise Misbehaviour(f"{what} is not a torch.optim.Optimizer; derive it from that class")
    recipe = subject.recipes[0]
    recipe.validate()
    optimizer = build_optimizer(recipe, _built_module(recipe))
    if not isinstance(optimizer, Optimizer):
        raise Misbehaviour(f"{type(optimizer).__name__} is not a torch.optim.Optimizer")
    numbers = [f"{k}={v:g}" for k, v in optimizer.defaults.items() if type(v) in (int, float)]
    return f"{type(optimizer).__name__}({', '.join(numbers)})"


def _state_pickles(subject: TrainingSubject) -> str:
    """The state goes to another process and back; so does a module with the recipe, its optimizer not yet made."""
    state = subject.reference.trainer.optimizers[0].state_dict()
    copy = pickle.loads(pickle.dumps(state))
    if not _equal(state, copy):
        raise Misbehaviour("its state_dict() is another one after pickling")
    fresh = build_optimizer(subject.recipe, subject.reference.module)
    fresh.load_state_dict(copy)
    module = pickle.loads(pickle.dumps(subject.make(subject.recipe)))
    if Recipe.of(module.recipe) != subject.recipe:
        raise Misbehaviour("a module with this recipe comes out of a pickle with another one")
    kept = _count_tensors(state)
    return f"its state of {kept} tensors and a module with the recipe come out of a pickle as they went in"


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor):
        return isinstance(second, Tensor) and first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(_equal(first[key], second[key]) for key in first)
    if isinstance(first, Sequence) and not isinstance(first, (str, bytes)):  # a deque of tensors too
        return len(first) == len(second) and all(map(_equal, first, second))
    return bool(first == second) or type(first) is type(second)  # objects without an equality of their own


def _count_tensors(state: Any) -> int:
    if isinstance(state, Mapping):
        return sum(map(_count_tensors, state.values()))
    if isinstance(state, Sequence) and not isinstance(state, (str, bytes)):
        return sum(map(_count_tensors, state))
    return int(isinstance(state, Tensor))


def _takes_groups(subject: TrainingSubject) -> str:
    """A group of its own for the output layer, at a tenth of the rate: it must move less far."""
    recipe = subject.recipe
    grouped = Recipe.of({**recipe.to_dict(), "parameters": [{"match": _GROUP}]})
    try:
        plain = _moved(grouped)
    except UserError as error:
        if subject.batch == "full":  # one direction for all parameters together, so one group, as in torch's LBFGS
            raise NotOffered(one_line(error)) from error
        raise
    has_rate = len(subject.recipes) > 1
    if not has_rate:
        return "takes two groups (no argument 'lr', so none for a group)"
    scaled = _moved(Recipe.of({**recipe.to_dict(), "parameters": [{"match": _GROUP, "lr_scale": _GROUP_SCALE}]}))
    if not scaled < 0.5 * plain:
        raise Misbehaviour(
            f"a group at {_GROUP_SCALE:g} of the learning rate moves {scaled:.2g} in {_STEPS} steps, at the full rate "
            f"{plain:.2g}: its steps do not follow the group's rate"
        )
    return f"a group at {_GROUP_SCALE:g} of the learning rate moves {scaled / plain:.2g} times as far"


def _moved(recipe: Recipe) -> float:
    """How far the output layer's weight moves in a few steps on fixed samples, as a 2-norm."""
    module = _built_module(recipe)
    optimizer = build_optimizer(recipe, module)
    if len(optimizer.param_groups) < 2:
        raise Misbehaviour(f"makes {len(optimizer.param_groups)} group of two")
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(32, 1, 8, 8, generator=generator), torch.arange(32) % 10
    weight = module.get_parameter("net.output.weight")
    before = weight.detach().clone()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(inputs), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    for _ in range(_STEPS):
        optimizer.step(closure)  # type: ignore[arg-type]
    return float(torch.linalg.vector_norm(weight.detach() - before))


def _built_module(recipe: Recipe) -> Classifier:
    seed_everything(0)
    return Classifier(_NET, recipe=recipe, input_shape=(1, 8, 8), output_size=10)
