"""One small training for any of pytorch_optimizer's optimizers, for the survey and its tests."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

STEPS = 60
BATCH = 128
# "Clearly below its start": from 2.3 nats to less than 2.1.
CLEARLY_BELOW = 0.9


@dataclass(frozen=True)
class Training:
    """How one training on digits went.

    Args:
        first: Mean cross-entropy over all samples before training, in nats.
        last: The same after it.
        moved: Whether every parameter given to the optimizer changed.
    """

    first: float
    last: float
    moved: bool

    @property
    def succeeded(self) -> bool:
        """Whether the loss fell clearly below its start."""
        return self.falls_below(CLEARLY_BELOW)

    def falls_below(self, share: float) -> bool:
        """Whether the last loss is below this share of the first."""
        return self.moved and math.isfinite(self.last) and self.last < share * self.first


@cache
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """scikit-learn's digits: inputs (1797, 64) in [0, 1] and classes (1797,)."""
    data = load_digits()
    return torch.tensor(data.data, dtype=torch.float32) / 16, torch.tensor(data.target)


def has_modes(optimizer_class: type) -> bool:
    """Whether it holds other weights for evaluation than for training."""
    return hasattr(optimizer_class, "train") and hasattr(optimizer_class, "eval")


def build(optimizer_class: type, net: nn.Module, way: str, lr: float | None, steps: int) -> torch.optim.Optimizer:
    """Construct an optimizer on the net with what ``way`` says, at its default rate where ``lr`` is None.

    Raises:
        Exception: Whatever the optimizer raises where this is not what it needs.
    """
    words = way.split(", ")
    parameters = list(net.parameters())
    arguments: dict[str, Any] = {}
    if lr is not None:
        arguments["max_lr" if "max_lr" in inspect.signature(optimizer_class).parameters else "lr"] = lr
    if "matrices" in words:
        parameters = [p for p in parameters if p.ndim == 2]
    if "steps" in words:
        arguments["num_iterations"] = steps
    if "samples" in words:
        arguments["num_data"] = len(digits()[0])
    first: Any = parameters
    if "use_muon" in words:
        first = [
            {"params": [p for p in parameters if p.ndim == 2], "use_muon": True},
            {"params": [p for p in parameters if p.ndim != 2], "use_muon": False},
        ]
    if "base_optimizer" in words:
        if "optimizer" in inspect.signature(optimizer_class).parameters:
            first = torch.optim.Adam(parameters, lr=arguments.pop("lr", 0.01))
        else:
            arguments |= {"base_optimizer": torch.optim.Adam, "lr": arguments.get("lr", 0.01)}
    if "model" in words:
        if "base_optimizer" in words:
            arguments["model"] = net
        else:
            first = net
    if "model" in arguments:
        return optimizer_class(params=first, **arguments)  # type: ignore[no-any-return]
    return optimizer_class(first, **arguments)  # type: ignore[no-any-return]


def train(
    optimizer_class: type, way: str = "", lr: float | None = None, steps: int = STEPS, calling: str = ""
) -> Training:
    """Train a 64-32-10 perceptron on digits with batches of 128 and fixed seeds.

    Args:
        optimizer_class: A class of pytorch_optimizer.
        way: What the optimizer is given, the words of ``NEEDS``.
        lr: Learning rate; None is the class's default.
        steps: Number of optimizer steps.
        calling: ``"plain"`` is ``backward()`` and ``step()``; ``"closure"`` is ``step(closure)`` as Lightning calls
            it, the gradient not yet computed; ``"both"`` is ``backward()`` and ``step(closure)``. By default what
            the way says.

    Raises:
        Exception: Whatever the optimizer raises where this is not what it needs.
    """
    words = way.split(", ")
    calling = calling or ("both" if "gradient" in words else "closure" if "closure" in words else "plain")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    inputs, classes = digits()
    with torch.no_grad():
        first = F.cross_entropy(net(inputs), classes).item()
    before = [p.detach().clone() for p in net.parameters()]
    optimizer: Any = build(optimizer_class, net, way, lr, steps)
    order = torch.cat([torch.randperm(len(inputs)) for _ in range(steps * BATCH // len(inputs) + 1)])
    if has_modes(optimizer_class):
        optimizer.train()
    for chosen in order[: steps * BATCH].split(BATCH):

        def closure(chosen: torch.Tensor = chosen) -> torch.Tensor:
            with torch.enable_grad():
                optimizer.zero_grad()
                loss = F.cross_entropy(net(inputs[chosen]), classes[chosen])
                loss.backward(create_graph="create_graph" in words)
            return loss.detach()

        if calling == "closure":
            optimizer.step(closure)
            continue
        closure()
        optimizer.step(*([closure] if calling == "both" else []))
    if has_modes(optimizer_class):
        optimizer.eval()
    with torch.no_grad():
        last = F.cross_entropy(net(inputs), classes).item()
    moved = all(
        not torch.equal(old, new) or ("matrices" in words and new.ndim != 2)
        for old, new in zip(before, net.parameters(), strict=True)
    )
    return Training(first, last, moved)
