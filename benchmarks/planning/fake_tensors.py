"""A training on tensors without storage: shapes and types flow as in the real one, and no memory is allocated."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_ATTENTION_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
_COMPARISONS = (torch.ops.aten.equal.default, torch.ops.aten.allclose.default)


@contextlib.contextmanager
def fake_tensors() -> Iterator[None]:
    """Make every tensor a fake one, as far as a training goes.

    Copies are possible, and each value that is read is some number, or true.
    """
    with (
        mock.patch.object(FakeTensor, "__deepcopy__", _deepcopy),
        mock.patch.object(torch.utils, "swap_tensors", functools.partial(_swap, torch.utils.swap_tensors)),
        FakeTensorMode(allow_non_fake_inputs=True),
        _FakeNumbers(),  # type: ignore[no-untyped-call]
    ):
        yield


def _swap(torchs: Callable[[Tensor, Tensor], None], present: Tensor, new: Tensor) -> None:
    """A module that is moved swaps its tensors, which torch refuses for tracked ones; mostly there is no change."""
    if present.dtype != new.dtype or present.shape != new.shape:
        torchs(present, new)


def _deepcopy(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    """Torch's own copies the storage, which a fake tensor has on no device."""
    if id(tensor) not in memo:
        copied = tensor.detach().clone()
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = (
            nn.Parameter(copied, tensor.requires_grad) if is_parameter else copied.requires_grad_(tensor.requires_grad)
        )
    return memo[id(tensor)]  # type: ignore[no-any-return]


class _FakeNumbers(TorchDispatchMode):
    """Answers what asks for the value of a fake tensor, such as an optimizer for its step: 1, 0.5 or true.

    Whether any value is so and so (not finite, still outside a range) is false: what asks would go on correcting.
    """

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            dtype = args[0].dtype
            if dtype is torch.bool:
                return not getattr(args[0], "is_of_any", False)
            return 0.5 if dtype.is_floating_point else 1
        if func in _COMPARISONS:
            return True
        if func is torch.ops.aten.nonzero.default:
            return _all_places(args[0])
        if func is torch.ops.aten.index.Tensor and any(_is_mask(index) for index in args[1]):
            return torch.ops.aten.index.Tensor(args[0], _without_masks(args[1]))
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket is torch.ops.aten.any:  # type: ignore[attr-defined]
            result.is_of_any = True
        return result


class FusedAttention(TorchFunctionMode):
    """Attention as on a GPU, whose fused kernels draw dropout again in the backward pass; those of a CPU have none."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        if func is nn.functional.scaled_dot_product_attention:
            named |= dict(zip(_ATTENTION_ARGUMENTS, args, strict=False))
            return func(**named | {"dropout_p": 0.0})
        return func(*args, **named)


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)


def _without_masks(indices: Any) -> list[Any]:
    """Masks as the places where they are true: everywhere, which is the most."""
    places: list[Any] = []
    for index in indices:
        places += _all_places(index).unbind(1) if _is_mask(index) else [index]
    return places


def _all_places(mask: Tensor) -> Tensor:
    """What ``nonzero`` returns where all is true, (numel, ndim)."""
    return mask.new_zeros((mask.numel(), mask.ndim), dtype=torch.long)
