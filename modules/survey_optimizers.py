"""Finds out what each of pytorch_optimizer's optimizers needs, by training it; writes ``pytorch_optimizer_names.py``.

Run it after pytorch_optimizer was updated (several minutes)::

    python -m trainoff.modules.survey_optimizers
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from trainoff.modules.survey_training import STEPS, Training, has_modes, train

# A library's default rate gets these before it is replaced: some start slowly on purpose.
LONG = 300
# A rate that replaces the library's default has more margin than that default needs.
WITH_MARGIN = 0.8
# Up to 10: LARS multiplies its rate by a trust coefficient of 0.001.
RATES = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0]

# In the order in which they are tried; the first way that trains is the one recorded.
WAYS = [
    "",
    "closure",
    "create_graph",
    "use_muon",
    "matrices",
    "steps",
    "model",
    "gradient, closure",
    "samples, gradient, closure",
    "base_optimizer",
    "base_optimizer, gradient, closure",
    "base_optimizer, model, gradient, closure",
    "process_group, use_muon",
]

# What an experiment on one small net in one process cannot say.
UNSUPPORTED = {
    "demo": "needs the package einops and several processes",
    "gsam": "needs a scheduler for its perturbation radius beside the model and a base optimizer",
    "lomo": "updates the weights during the backward pass, before step()",
    "adalomo": "updates the weights during the backward pass, before step()",
    "lorarite": "takes alternating pairs of low-rank factors only",
    "pcgrad": "projects the gradients of several losses onto each other, and a task has one",
    "safefp16optimizer": "scales the loss for half-precision weights, which is the precision's part",
    "sara": "trains only weights that are almost zero, to tune a pretrained net",
}

HEAD = '''"""pytorch_optimizer's optimizers: data, found by experiment with version {version}; nothing here imports it.

Written by ``python -m trainoff.modules.survey_optimizers``; not edited by hand. A name is the class's, in lower case,
with the prefix ``po_`` where torch.optim has a class of that name.

``NEEDS`` says in words what an optimizer takes beyond parameters, gradients and ``step()``:

========================  ============================================================================
``closure``               ``step(closure)``: it evaluates the loss itself, or reads the loss
``gradient``              gradients before ``step(closure)`` calls the closure
``no_closure``            ``step()`` alone: given a closure, it raises
``create_graph``          ``loss.backward(create_graph=True)``
``use_muon``              parameter groups with a key ``use_muon``: true for matrices, false for the rest
``matrices``              2-D parameters only
``steps``                 the number of steps, as ``num_iterations``
``samples``               the number of training samples, as ``num_data``
``model``                 the net: as first argument, or as ``model`` beside a base optimizer
``base_optimizer``        another optimizer: its class, as ``base_optimizer``, or an instance, as first argument
``train_mode``            its own ``train()`` and ``eval()``: other weights for evaluation than for training
``process_group``         an initialised ``torch.distributed`` process group
``unsupported: reason``   trainoff does not offer it
========================  ============================================================================

``LEARNING_RATES`` has a rate that trains for those whose own default does not, on a small task of 300 steps.
``DECOUPLED`` has those whose weight decay, by default, shrinks the weights apart from the gradient.
"""

from __future__ import annotations

'''


def optimizer_classes() -> dict[str, type[torch.optim.Optimizer]]:
    """The name of each optimizer class that pytorch_optimizer brings, wrappers among them.

    torch's own classes are left out; a class of the library with the name of one of torch's gets the prefix ``po_``.
    """
    import pytorch_optimizer

    torch_names = {name.lower() for name, value in vars(torch.optim).items() if inspect.isclass(value)}
    found = {}
    for class_name in pytorch_optimizer.optimizer.__all__:
        value = getattr(pytorch_optimizer.optimizer, class_name)
        if not inspect.isclass(value) or not issubclass(value, torch.optim.Optimizer):
            continue
        if value.__module__.startswith("torch."):
            continue
        name = class_name.lower()
        found[f"po_{name}" if name in torch_names else name] = value
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Finding:
    """What the survey found for one optimizer.

    Args:
        needs: The words of ``NEEDS``, joined; empty for most.
        learning_rate: A rate that trains, where the library's default does not.
        trained: The training that succeeded.
    """

    needs: str
    learning_rate: float | None = None
    trained: Training | None = None


def survey(name: str, optimizer_class: type) -> Finding:
    """Try the ways one after the other; in each, the default learning rate, then for longer, then other rates."""
    if name in UNSUPPORTED:
        return Finding(f"unsupported: {UNSUPPORTED[name]}")
    for way in WAYS:
        with process_group(wanted="process_group" in way):
            trained = attempt(optimizer_class, way, steps=STEPS)
            if trained is None:
                continue
            rate = None
            if not trained.succeeded:
                trained = attempt(optimizer_class, way, steps=LONG) or trained
            if not trained.succeeded:
                trained, rate = nearest_rate(optimizer_class, way)
            if trained.succeeded:
                return Finding(_with_calling(optimizer_class, way, rate), rate, trained)
    return Finding(f"unsupported: its loss does not fall at any learning rate from {RATES[0]} to {RATES[-1]}")


def attempt(optimizer_class: type, way: str, **arguments: Any) -> Training | None:
    """:func:`train`, or None where the optimizer raises: it may raise anything where its needs are not met."""
    try:
        return train(optimizer_class, way, **arguments)
    except Exception:
        return None


def nearest_rate(optimizer_class: type, way: str) -> tuple[Training, float | None]:
    """The learning rate that trains with some margin and is nearest to the class's default."""
    parameters = inspect.signature(optimizer_class).parameters
    default = (parameters["lr"].default if "lr" in parameters else None) or 1e-3
    for lr in sorted(RATES, key=lambda lr: abs(math.log(lr / default))):
        trained = attempt(optimizer_class, way, lr=lr, steps=LONG)
        if trained and trained.falls_below(WITH_MARGIN):
            return trained, lr
    return Training(math.inf, math.inf, moved=False), None


def _with_calling(optimizer_class: type, way: str, rate: float | None) -> str:
    """The way, with what comparing two forms of calling ``step`` adds to it."""
    words = [word for word in way.split(", ") if word]
    if has_modes(optimizer_class):
        words.append("train_mode")
    if "closure" in words:
        return ", ".join(words)
    plain, closure = (
        attempt(optimizer_class, way, lr=rate, steps=LONG, calling=calling) for calling in ("plain", "closure")
    )
    # Lightning hands a closure to every optimizer: most call it first and then do the same.
    if closure is None:
        words.append("no_closure")
    elif plain and not math.isclose(plain.last, closure.last, rel_tol=1e-6):
        # It reads the loss that the closure returns.
        words.append("closure")
    return ", ".join(words)


@contextmanager
def process_group(*, wanted: bool) -> Iterator[None]:
    """A process group of this one process while inside, where it is wanted."""
    if not wanted:
        yield
        return
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        dist.destroy_process_group()


def is_decoupled(optimizer_class: type) -> bool:
    """Whether weight decay acts apart from the gradient by default.

    By the class's own arguments for it where they say so, else by experiment: under a constant gradient, decoupled
    steps shift every weight by the same small share of itself. Optimizers whose steps grow with the gradient are left
    out: for them the two forms are one.
    """
    parameters = inspect.signature(optimizer_class).parameters
    if "weight_decay" not in parameters:
        return False
    declarations = {"weight_decouple", "fixed_decay", "decoupled_weight_decay"} & set(parameters)
    if any(parameters[argument].default is True for argument in declarations):
        return True
    rate, decay, steps = 1e-2, 1e-2, 8
    torch.manual_seed(0)
    start, gradient = torch.randn(8, 8) + 3, torch.randn(8, 8)

    def after_steps(scale: float, decay: float) -> torch.Tensor:
        parameter = nn.Parameter(start.clone())
        optimizer = optimizer_class([{"params": [parameter], "use_muon": True}], lr=rate, weight_decay=decay)
        if has_modes(optimizer_class):
            optimizer.train()
        for _ in range(steps):
            parameter.grad = scale * gradient
            optimizer.step()
        return parameter.detach()

    try:
        plain = after_steps(1.0, 0.0)
        adaptive = (after_steps(10.0, 0.0) - start).norm() < 5 * (plain - start).norm()
        share = (plain - after_steps(1.0, decay)) / (steps * rate * decay * start)
    except Exception:  # it is built in another way; its decay then cannot be set for each group
        return False
    # Less than all steps' worth where the first ones only prepare, or the weights are an average.
    return bool(adaptive and share.std() < 0.05 * share.mean() and 0.3 < share.mean() < 1.2)


def table(findings: Mapping[str, Finding], classes: Mapping[str, type]) -> str:
    """The source of ``pytorch_optimizer_names.py``."""
    decoupled = sorted(name for name, value in classes.items() if is_decoupled(value))
    rates = {name: found.learning_rate for name, found in findings.items() if found.learning_rate is not None}
    needs = {name: found.needs for name, found in findings.items() if found.needs}
    return HEAD.format(version=version("pytorch_optimizer")) + "\n".join(
        [
            "CLASSES: dict[str, str] = {",
            *(f'    "{name}": "{value.__name__}",' for name, value in classes.items()),
            "}",
            "",
            "NEEDS: dict[str, str] = {",
            *(f'    "{name}": "{words}",' for name, words in needs.items()),
            "}",
            "",
            "LEARNING_RATES: dict[str, float] = {",
            *(f'    "{name}": {rate},' for name, rate in rates.items()),
            "}",
            "",
            "DECOUPLED: set[str] = {",
            *(f'    "{name}",' for name in decoupled),
            "}",
            "",
        ]
    )


def main() -> None:
    """Survey every optimizer and write the table beside this file."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    classes = optimizer_classes()
    findings = {}
    for index, (name, optimizer_class) in enumerate(classes.items(), start=1):
        found = findings[name] = survey(name, optimizer_class)
        loss = f"{found.trained.first:.2f} -> {found.trained.last:.2f}" if found.trained else ""
        print(f"{index:3}/{len(classes)} {name:20} {loss:15} {found.learning_rate or '':6} {found.needs}", flush=True)
    Path(__file__).with_name("pytorch_optimizer_names.py").write_text(table(findings, classes), encoding="utf-8")


if __name__ == "__main__":
    main()
