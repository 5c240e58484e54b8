"""Tensors that are sharded over processes: their whole, and lists in which they stand beside plain ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor


def whole(tensor: Tensor) -> Tensor:
    """The tensor itself; of one that is sharded, all of it. Then every process has to ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def alike(tensors: Iterable[Tensor]) -> list[list[int]]:
    """Places of the tensors by what they are: plain, or sharded over one mesh of devices.

    Torch's operations on lists of tensors take no lists of several kinds. Where all are plain that is one list.
    """
    places: dict[object, list[int]] = {}
    for place, tensor in enumerate(tensors):
        mesh = tensor.device_mesh if isinstance(tensor, DTensor) else None
        places.setdefault(mesh, []).append(place)
    return list(places.values())


def norm_of_all(tensors: Sequence[Tensor]) -> Tensor:
    """The 2-norm of all tensors together, plain; of sharded ones, of the whole. At least one tensor."""
    norms = [whole(norm) for kind in alike(tensors) for norm in torch._foreach_norm([tensors[i] for i in kind])]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return norm
