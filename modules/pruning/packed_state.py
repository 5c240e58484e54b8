"""A module's state with its zeros left out: what a pruned net needs on disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

_PACKED = "trainoff.packed"


def pack(state: Mapping[str, Any]) -> dict[str, Any]:
    """Each tensor as one bit an entry and the entries that are not zero, where that is shorter than the tensor.

    Args:
        state: A ``state_dict()``.

    Returns:
        What ``torch.save`` writes and ``torch.load(weights_only=True)`` reads; :func:`unpack` is the way back.
    """
    return {name: _packed(value) if isinstance(value, Tensor) else value for name, value in state.items()}


def unpack(packed: Mapping[str, Any]) -> dict[str, Any]:
    """The state again, bit by bit (a negative zero becomes zero)."""
    return {name: _unpacked(value) if _is_packed(value) else value for name, value in packed.items()}


def _packed(tensor: Tensor) -> Any:
    flat = tensor.detach().cpu().flatten()
    kept = flat != 0
    mask_bytes = -(-flat.numel() // 8)
    if flat.numel() * flat.element_size() <= mask_bytes + int(kept.sum()) * flat.element_size():
        return tensor.detach().cpu().clone()
    bits = torch.from_numpy(np.packbits(kept.numpy()))
    return {_PACKED: list(tensor.shape), "bits": bits, "values": flat[kept].clone()}


def _is_packed(value: Any) -> bool:
    return isinstance(value, Mapping) and _PACKED in value


def _unpacked(packed: Mapping[str, Any]) -> Tensor:
    shape, values = packed[_PACKED], packed["values"]
    flat = torch.zeros(torch.Size(shape).numel(), dtype=values.dtype)
    flat[torch.from_numpy(np.unpackbits(packed["bits"].numpy(), count=flat.numel())).bool()] = values
    return flat.view(shape)
