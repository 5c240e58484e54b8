"""A net sharded over devices that are not there: torch's fake process group answers for the others."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import lightning as L
import torch.distributed
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import _disable_current_modes

from trainoff.errors import UserError
from trainoff.modules.sharding import shard_net


@contextlib.contextmanager
def fake_devices(data: int, tensor: int) -> Iterator[ModelParallelStrategy]:
    """Lightning's strategy on a mesh of devices, of which this process is the first.

    Args:
        data: Devices that share the batch, and each parameter.
        tensor: Devices that split each layer.

    Raises:
        UserError: Where this process is one of several real ones.
    """
    if torch.distributed.is_initialized():
        raise UserError("this process is one of several already; plan in one of its own", "plan")
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=data * tensor)
    strategy = ModelParallelStrategy(data, tensor)
    try:
        names = ("data_parallel", "tensor_parallel")
        strategy._device_mesh = init_device_mesh("cpu", (data, tensor), mesh_dim_names=names)
        with mock.patch.object(DeviceMesh, "__init__", functools.partialmethod(_make_mesh, DeviceMesh.__init__)):
            yield strategy
    finally:
        torch.distributed.destroy_process_group()


def _make_mesh(mesh: DeviceMesh, make: Callable[..., None], *arguments: Any, **named: Any) -> None:
    """A part of a mesh is a tensor of ranks, whose values are looked at: it is not to be a fake one."""
    with _disable_current_modes():
        make(mesh, *arguments, **named)


def shard_module(module: L.LightningModule, strategy: ModelParallelStrategy) -> nn.Module:
    """Shard the module's net as a training does, and return it.

    Raises:
        UserError: Where the module has several nets, or its net cannot be split.
    """
    nets = [net for net in module.children() if next(net.parameters(), None) is not None]
    if len(nets) != 1:
        raise UserError(
            f"{type(module).__name__} has {len(nets)} nets with parameters; one can be sharded", "strategy"
        )
    shard_net(strategy, nets[0])
    return nets[0]
