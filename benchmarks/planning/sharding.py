"""A net sharded by FSDP2 over devices that are not there: torch's fake process group answers for the others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import cast

import lightning as L
import torch.distributed
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from trainoff.errors import UserError
from trainoff.modules.activation_checkpointing import repeated_blocks


@contextlib.contextmanager
def fake_devices(number: int) -> Iterator[DeviceMesh]:
    """A mesh of so many devices, of which this process is the first.

    Raises:
        UserError: Where this process is one of several real ones.
    """
    if torch.distributed.is_initialized():
        raise UserError("this process is one of several already; plan in one of its own", "plan")
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=number)
    try:
        yield init_device_mesh("cpu", (number,))
    finally:
        torch.distributed.destroy_process_group()


def shard_net(module: L.LightningModule, mesh: DeviceMesh) -> nn.Module:
    """Shard the module's net fully: each block that repeats by itself, then the rest (Zhao et al. 2023).

    Returns:
        The net.

    Raises:
        UserError: Where the module has several nets.
    """
    nets = [net for net in module.children() if next(net.parameters(), None) is not None]
    if len(nets) != 1:
        raise UserError(
            f"{type(module).__name__} has {len(nets)} nets with parameters; one can be sharded", "strategy"
        )
    net = nets[0]
    for name in repeated_blocks(net):
        fully_shard(net.get_submodule(name), mesh=mesh)
    return cast(nn.Module, fully_shard(net, mesh=mesh))
