"""A training on tensors without storage: shapes and types flow as in the real one, and no memory is allocated."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode


@contextlib.contextmanager
def fake_tensors() -> Iterator[None]:
    """Make every tensor a fake one, as far as a training goes: copies are possible, and each number read is 1 or true."""
    before = vars(FakeTensor).get("__deepcopy__")
    FakeTensor.__deepcopy__ = _deepcopy  # type: ignore[attr-defined]
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), _FakeNumbers():
            yield
    finally:
        if before is None:
            del FakeTensor.__deepcopy__  # type: ignore[attr-defined]
        else:
            FakeTensor.__deepcopy__ = before  # type: ignore[attr-defined]


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
    """Answers what asks for the value of a fake tensor, such as an optimizer for its step: 1, or true.

    Whether any value is so and so (not finite, still outside a range) is false: what asks would go on correcting.
    """

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            dtype = args[0].dtype
            if dtype is torch.bool:
                return not getattr(args[0], "is_of_any", False)
            return 1.0 if dtype.is_floating_point else 1
        if func is torch.ops.aten.equal.default:
            return True
        if func is torch.ops.aten.nonzero.default:
            return args[0].new_zeros((args[0].numel(), args[0].ndim), dtype=torch.long)
        if func is torch.ops.aten.index.Tensor and any(_is_mask(index) for index in args[1]):
            return torch.ops.aten.index.Tensor(args[0], _without_masks(args[1]))
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket is torch.ops.aten.any:  # type: ignore[attr-defined]
            result.is_of_any = True
        return result


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)


def _without_masks(indices: Any) -> list[Any]:
    """Masks as the places where they are true: everywhere, which is the most."""
    places: list[Any] = []
    for index in indices:
        places += index.nonzero().unbind(1) if _is_mask(index) else [index]
    return places
