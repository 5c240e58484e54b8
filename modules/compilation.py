"""Compiling what a LightningModule computes, by torch.compile."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from torch import nn

from trainoff.errors import UserError


def compile_nets(module: L.LightningModule, options: Mapping[str, Any] | None) -> None:
    """Have the nets of a module compiled at their first call, or take that back.

    In place: ``torch.compile(net)`` would rename the keys of the state dict. What stands between the nets (losses,
    metrics, logging) stays as it is.

    Args:
        module: Its nets are its direct submodules with parameters; one of them, where it keeps one in ``net``.
        options: Arguments of ``torch.compile``, such as ``{"backend": "inductor", "mode": "max-autotune"}``; None
            where nothing is to be compiled.

    Raises:
        UserError: Where the module has no net to compile, or torch refuses the options.
    """
    nets = [net for net in module.children() if next(net.parameters(), None) is not None]
    for net in nets:
        net._compiled_call_impl = None
    if options is None:
        return
    if not nets:
        raise UserError(f"{type(module).__name__} has no submodule with parameters to compile", "compile")
    for net in nets:
        _compile(net, options)


def _compile(net: nn.Module, options: Mapping[str, Any]) -> None:
    # What `net.compile()` does, but through a function of this file: torch takes no frame of its own classes for the
    # beginning of a graph, and leaves a net that is an nn.Sequential as it is without a word.
    try:
        net._compiled_call_impl = torch.compile(functools.partial(_call, net), **options)
    except Exception as error:
        raise UserError(" ".join(str(error).split()), "compile") from error


def _call(net: nn.Module, *inputs: Any, **named: Any) -> Any:
    return net._call_impl(*inputs, **named)
