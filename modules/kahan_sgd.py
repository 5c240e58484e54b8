"""SGD whose weights lose no update to rounding, for weights that are kept in half precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from trainoff.seeds import derive_seed

_LOST_BITS = 16  # of a float32, in a bfloat16


class KahanSGD(Optimizer):
    """SGD as torch's, computed in float32 and added to the weights with a rounding of one's choice.

    In bfloat16 an update below 1/512 of its weight vanishes when the sum is rounded to the nearest number, so that
    training stalls (De Sa et al. 2018, High-accuracy low-precision training; Zamirai et al. 2020, Revisiting bfloat16
    training, sections 3 and 4).

    - ``kahan``: what rounding takes away is kept in a second number of the weight's type, and added to the next
      update.
    - ``stochastic``: up or down at random, with probabilities that make the mean exact. The numbers come from a
      generator of its own, by ``seed`` and step: replicas round alike, and so does a resumed training.
    - ``nearest``: plain.

    For weights in float32 or float64 all three are SGD.

    Args:
        params: Parameters, or groups of them.
        lr: The learning rate, from 0.
        momentum: μ: b ← μb + g, from 0; b has the weight's type.
        weight_decay: Added to the gradient as λθ, from 0.
        nesterov: The step is g + μb in place of b.
        rounding: ``kahan``, ``stochastic`` (bfloat16 only) or ``nearest``.
        seed: Of the random rounding.

    Raises:
        ValueError: For a number out of range, or an unknown rounding.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        rounding: Literal["kahan", "stochastic", "nearest"] = "kahan",
        seed: int = 0,
    ) -> None:
        for name, value in (("lr", lr), ("momentum", momentum), ("weight_decay", weight_decay)):
            if value < 0:
                raise ValueError(f"{name} is at least 0, not {value}")
        if nesterov and momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        if rounding not in ("kahan", "stochastic", "nearest"):
            raise ValueError(f"rounding is kahan, stochastic or nearest, not '{rounding}'")
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "rounding": rounding,
                "seed": seed,
            },
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step.

        Raises:
            ValueError: For random rounding of a type other than bfloat16, float32 and float64.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for place, group in enumerate(self.param_groups):
            for number, parameter in enumerate(group["params"]):
                if parameter.grad is not None:
                    self._add(parameter, self._update(parameter, group), group, (place, number))
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """What is to be added, in float32 or wider."""
        wide = torch.promote_types(parameter.dtype, torch.float32)
        direction = parameter.grad.to(wide, copy=True)  # type: ignore[union-attr]
        if group["weight_decay"]:
            direction.add_(parameter, alpha=group["weight_decay"])
        momentum = group["momentum"]
        if momentum:
            state = self.state[parameter]
            before = state.get("momentum_buffer")
            buffer = direction.clone() if before is None else direction.add(before, alpha=momentum)
            state["momentum_buffer"] = buffer.to(parameter.dtype)
            direction = direction.add_(buffer, alpha=momentum) if group["nesterov"] else buffer
        return direction.mul(-group["lr"])  # not in place: the direction may be the buffer

    def _add(self, parameter: Tensor, update: Tensor, group: dict[str, Any], place: tuple[int, int]) -> None:
        if parameter.dtype in (torch.float32, torch.float64) or group["rounding"] == "nearest":
            parameter.copy_(update.add_(parameter))
        elif group["rounding"] == "kahan":
            state = self.state[parameter]
            if "lost" in state:
                update.add_(state["lost"])
            before = parameter.to(update.dtype)
            parameter.copy_(before + update)
            state["lost"] = update.sub_(parameter.to(update.dtype).sub_(before)).to(parameter.dtype)
        else:
            state = self.state[parameter]
            state["step"] = step = state.get("step", 0) + 1
            seed = derive_seed(group["seed"], "rounding", step, *place)
            generator = torch.Generator(parameter.device).manual_seed(seed)
            parameter.copy_(round_at_random(update.add_(parameter), parameter.dtype, generator))


def round_at_random(wide: Tensor, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Finite float32 numbers as bfloat16, each up or down with a probability that makes the mean exact.

    Args:
        wide: float32.
        dtype: Of the result; only bfloat16 is a float32 with the last bits cut off.
        generator: On the same device.

    Raises:
        ValueError: For another type.
    """
    if dtype != torch.bfloat16:
        raise ValueError(f"random rounding is to bfloat16, not to {dtype}")
    noise = torch.randint(1 << _LOST_BITS, wide.shape, generator=generator, device=wide.device, dtype=torch.int32)
    bits = wide.contiguous().view(torch.int32) + noise
    return (bits & -(1 << _LOST_BITS)).view(torch.float32).to(dtype)
