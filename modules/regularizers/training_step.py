"""A place before and around anyone's ``training_step``, where Lightning has no hook.

``on_after_batch_transfer``, its hook for changing a batch, is not called on the module where the DataModule has one
too; and no hook sees a batch's inputs and the loss together.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import lightning as L
import torch
from torch import Tensor

from trainoff.errors import UserError

Around: TypeAlias = Callable[..., Any]  # takes the step, then its arguments, and returns what the step returns


def stand_before(module: L.LightningModule) -> None:
    """Let the module's ``training_step`` get the batch that :func:`replace_batch` has left for it."""
    if "own_training_step" in vars(module):
        return
    vars(module)["own_training_step"] = vars(module).get("training_step")
    step = functools.partial(_step, module)
    step.__wrapped__ = type(module).training_step  # type: ignore[attr-defined]  # Lightning reads its signature
    module.training_step = step  # type: ignore[method-assign]


def stand_around(module: L.LightningModule, around: Around) -> None:
    """Let a function call the module's ``training_step``; a later one stands inside of an earlier one."""
    stand_before(module)
    vars(module).setdefault("around_training_step", []).append(around)


def leave_step(module: L.LightningModule) -> None:
    """Leave the module as it was; whoever comes second finds nothing to do."""
    vars(module).pop("changed_batch", None)
    vars(module).pop("around_training_step", None)
    if "own_training_step" in vars(module):
        del vars(module)["training_step"]
        own = vars(module).pop("own_training_step")
        if own is not None:
            module.training_step = own  # type: ignore[method-assign]


def present_batch(module: L.LightningModule, batch: Any) -> Any:
    """The batch as it has been changed so far."""
    given, changed = vars(module).get("changed_batch", (None, None))
    return changed if given is batch else batch


def replace_batch(module: L.LightningModule, given: Any, changed: Any) -> None:
    """Leave another batch in place of the given one."""
    vars(module)["changed_batch"] = (given, changed)


def parts_of(batch: Any, name: str) -> Sequence[Any]:
    """Inputs, targets, and whatever comes after them.

    Args:
        batch: A tuple or a list.
        name: Who asks, for the message.

    Raises:
        UserError: For a batch that is not inputs and targets.
    """
    if not isinstance(batch, (tuple, list)) or len(batch) < 2 or not all(map(torch.is_tensor, batch[:2])):
        raise UserError("needs batches of (inputs, targets)", name)
    return batch


def like_batch(batch: Any, parts: Sequence[Tensor | Any]) -> Any:
    """The parts in a container like the batch's: a tuple, a list, a named tuple."""
    container = type(batch)
    return container(*parts) if hasattr(batch, "_fields") else container(parts)


def _step(module: L.LightningModule, batch: Any, *args: Any, **kwargs: Any) -> Any:
    own = vars(module)["own_training_step"]
    step = functools.partial(type(module).training_step, module) if own is None else own
    for around in reversed(vars(module).get("around_training_step", [])):
        step = functools.partial(around, step)
    return step(present_batch(module, batch), *args, **kwargs)
