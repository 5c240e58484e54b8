"""Sharding a net over a mesh of devices, where the Trainer's strategy is Lightning's ``ModelParallelStrategy``.

``data_parallel_size`` shards parameters, gradients and optimizer state (FSDP2: Zhao et al. 2023, PyTorch FSDP,
section 3; each process sees its part of a batch). ``tensor_parallel_size`` splits layers (Shoeybi et al. 2019,
Megatron-LM, section 3; all processes of a group see the same samples).
"""

from __future__ import annotations

import functools
from typing import Any, cast

import lightning as L
import torch
import torch.distributed
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.distributed.tensor.parallel.style import ParallelStyle

from trainoff.errors import UserError
from trainoff.modules.nets.gpt2 import GPT2Block
from trainoff.modules.nets.mlp import MLP
from trainoff.modules.nets.transformer import EncoderLayer
from trainoff.modules.nets.transformer_layers import Attention, FeedForward
from trainoff.modules.nets.vit import AttentionBlock, DenseBlock

# Layers whose parameters are used within their own forward pass: each is gathered when its turn comes. All else of a
# net is gathered at its start.
_BLOCKS = (GPT2Block, EncoderLayer, AttentionBlock, DenseBlock)
# What a module calls on a net beside its forward pass.
_METHODS = ("encode", "decode_step")


def is_sharded(module: nn.Module) -> bool:
    """Whether any layer is spread over devices; its parameters may be gathered at the moment."""
    gathers = any(isinstance(layer, FSDPModule) for layer in module.modules())
    return gathers or any(isinstance(parameter, DTensor) for parameter in module.parameters())


def check_shardable(module: L.LightningModule, tensor_parallel_size: int) -> None:
    """Refuse a module that ``ModelParallelStrategy`` cannot train.

    Args:
        module: With its net, where it is one of trainoff's.
        tensor_parallel_size: Devices that share each layer.

    Raises:
        UserError: For a module that shards nothing, and a net whose layers cannot be split.
    """
    net, name = getattr(module, "net", None), type(module).__name__
    if not getattr(module, "shards_its_net", True):
        raise UserError(f"{name} trains parts of its net by turns, which are not sharded; use ddp", "strategy")
    if not is_overridden("configure_model", module):
        raise UserError(f"{name} has no configure_model, where it would shard itself; use ddp", "strategy")
    if tensor_parallel_size > 1 and getattr(module, "shards_its_net", False) and isinstance(net, nn.Module):
        tensor_parallel_plan(net, tensor_parallel_size)


def shard_net(strategy: ModelParallelStrategy, net: nn.Module) -> None:
    """Shard a net over a strategy's devices, once.

    Args:
        strategy: Of the Trainer, set up.
        net: With its initial weights, alike in all processes.

    Raises:
        UserError: For a net that cannot be split as the strategy says.
    """
    if is_sharded(net):
        return
    data, tensor = strategy.device_mesh["data_parallel"], strategy.device_mesh["tensor_parallel"]
    if tensor.size() > 1:
        parallelize_module(net, tensor, tensor_parallel_plan(net, tensor.size()))
    if data.size() > 1:
        for layer in net.modules():
            if isinstance(layer, _BLOCKS):
                fully_shard(layer, mesh=data)
        fully_shard(net, mesh=data)
        for name in _METHODS:
            if hasattr(net, name):
                register_fsdp_forward_method(net, name)
        if any(True for _ in net.buffers()):
            net.register_forward_pre_hook(functools.partial(_take_buffers, group=data.get_group()))


def _take_buffers(net: nn.Module, inputs: Any, group: torch.distributed.ProcessGroup) -> None:
    """Those of the group's first process, as ddp does: each has seen its own part of the batches."""
    first = torch.distributed.get_global_rank(group, 0)
    for buffer in net.buffers():
        torch.distributed.broadcast(buffer, first, group=group)


def tensor_parallel_plan(net: nn.Module, devices: int) -> dict[str, ParallelStyle]:
    """How each layer of a net is split: by its outputs (columns), and the next one by its inputs (rows).

    Of attention the heads are split, of dense layers the hidden units. All other layers are whole on each device.

    Args:
        net: A multi-layer perceptron, or one of attention and dense layers.
        devices: That share each layer.

    Returns:
        What :func:`torch.distributed.tensor.parallel.parallelize_module` takes.

    Raises:
        UserError: For a net without such layers, numbers that do not divide, and dropout, of which each device would
            draw its own part.
    """
    where = "strategy.tensor_parallel_size"
    if any(isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0 for layer in net.modules()):
        raise UserError("split layers would draw dropout apart; set the net's dropout to 0", where)
    plan: dict[str, ParallelStyle] = {}
    for name, layer in net.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(layer, Attention):
            _check_divides(layer.heads, "heads", devices)
            plan |= {f"{prefix}{part}": ColwiseParallel() for part in ("query", "key", "value")}
            plan[f"{prefix}output"] = RowwiseParallel()
        elif isinstance(layer, FeedForward):
            plan |= _pair(f"{prefix}hidden", f"{prefix}output", layer.hidden, devices)
        elif isinstance(layer, DenseBlock):
            plan |= _pair(f"{prefix}dense1", f"{prefix}dense2", layer.dense1, devices)
        elif isinstance(layer, MLP):
            plan |= _mlp_plan(layer, prefix, devices)
    if not plan:
        raise UserError(
            f"{type(net).__name__} has no layers that split, which mlp, gpt2, bert, vit_tiny and transformer have; "
            "data_parallel_size shards any net",
            where,
        )
    return plan


def _mlp_plan(net: MLP, prefix: str, devices: int) -> dict[str, ParallelStyle]:
    """Its layers in pairs; of an odd number the last one is whole."""
    layers = [(f"{prefix}hidden.{number}.0", cast(Any, block)[0]) for number, block in enumerate(net.hidden)]
    layers.append((f"{prefix}output", net.output))
    if any(not isinstance(cast(Any, block)[1], nn.Identity) for block in net.hidden):
        raise UserError("a norm over hidden units that are split is not to be had; set the net's norm to none",
                        "strategy.tensor_parallel_size")  # fmt: skip
    plan: dict[str, ParallelStyle] = {}
    for (first, layer), (second, _) in zip(layers[::2], layers[1::2], strict=False):
        plan |= _pair(first, second, layer, devices)
    return plan


def _pair(first: str, second: str, layer: nn.Module, devices: int) -> dict[str, ParallelStyle]:
    _check_divides(cast(nn.Linear, layer).out_features, "hidden units", devices)
    return {first: ColwiseParallel(), second: RowwiseParallel()}


def _check_divides(number: int, kind: str, devices: int) -> None:
    if number % devices:
        raise UserError(f"{devices} devices do not divide {number} {kind}", "strategy.tensor_parallel_size")
