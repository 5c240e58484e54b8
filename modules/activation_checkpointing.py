"""Activation checkpointing: blocks of a net keep their inputs only, and are computed again on the way back."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from trainoff.errors import UserError

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def set_activation_checkpointing(module: nn.Module, match: str | None) -> list[str]:
    """Have the blocks of a module computed again in the backward pass, in place of keeping what lies inside them.

    Memory for activations falls from all layers' to that of the blocks' inputs and of one block; each block's forward
    pass is computed twice (Chen et al. 2016, Training deep nets with sublinear memory cost). Gradients, batch norm's
    statistics and dropout's draws are what they are without it.

    Args:
        module: A net, or a LightningModule.
        match: Shell pattern of the blocks' names, of which the outermost are taken; by default those that repeat: the
            outermost modules with layers inside, of a class that occurs more than once.

    Returns:
        The blocks' names.

    Raises:
        UserError: Where no module is called so, or none repeats.
    """
    clear_activation_checkpointing(module)
    names = _outermost(_matching(module, match) if match is not None else _repeated(module))
    if not names:
        advice = "its own names stand in named_modules()"
        if match is not None:
            raise UserError(f"no module of the net is called '{match}'; {advice}", "activation_checkpointing.match")
        raise UserError(
            f"{type(module).__name__} has no blocks that repeat; say which modules, as in "
            f"{{match: 'layers.*'}}: {advice}",
            "activation_checkpointing",
        )
    for name in names:
        block = module.get_submodule(name)
        # A partial of a function of this file: a bound method would pickle and come back as the class's own.
        block.forward = functools.partial(_checkpointed, block)  # type: ignore[method-assign]
    return names


def clear_activation_checkpointing(module: nn.Module) -> None:
    """Take it back from every block."""
    for block in module.modules():
        forward = vars(block).get("forward")
        if isinstance(forward, functools.partial) and forward.func is _checkpointed:
            del block.forward


def _checkpointed(block: nn.Module, *inputs: Any, **named: Any) -> Any:
    forward = functools.partial(type(block).forward, block)
    if not block.training:  # nothing is kept in evaluation, and a step of decoding brings a cache
        return forward(*inputs, **named)
    norms = [layer for layer in block.modules() if isinstance(layer, _BatchNorm)]
    if not norms:
        return checkpoint(forward, *inputs, use_reentrant=False, **named)
    contexts = functools.partial(_contexts, norms)
    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=contexts, **named)


def _contexts(
    norms: list[_BatchNorm],
) -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
    """For the first computation, and for the second one."""
    return contextlib.nullcontext(), _without_statistics(norms)


@contextlib.contextmanager
def _without_statistics(norms: list[_BatchNorm]) -> Iterator[None]:
    """The batch has moved the running statistics in the first computation; the second one is not to do it again."""
    counted = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None  # the same operations, which then change nothing
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, counted, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches


def _matching(module: nn.Module, pattern: str) -> list[str]:
    return [name for name, _ in module.named_modules() if name and fnmatchcase(name, pattern)]


def repeated_blocks(module: nn.Module) -> list[str]:
    """The names of the outermost modules with layers inside, of a class that occurs more than once."""
    return _outermost(_repeated(module))


def _repeated(module: nn.Module) -> list[str]:
    def is_block(part: nn.Module) -> bool:
        has_layers = next(part.children(), None) is not None and next(part.parameters(), None) is not None
        return has_layers and not isinstance(part, _CONTAINERS)

    blocks = {name: type(part) for name, part in module.named_modules() if name and is_block(part)}
    counts = Counter(blocks.values())
    return [name for name, kind in blocks.items() if counts[kind] > 1]


def _outermost(names: list[str]) -> list[str]:
    return [name for name in names if not any(name.startswith(f"{other}.") for other in names)]
