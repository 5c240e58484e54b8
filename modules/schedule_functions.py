"""The schedules' formulas, free of torch: each a frozen dataclass with ``factor(step, total)``.

That is the share of the base rate at ``step`` (from 0) of ``total``. Adding one takes such a class here and a line in
``schedules.py``; ``schedule_building.py`` makes of it what Lightning's ``configure_optimizers`` returns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from trainoff.errors import UserError


class Schedule(Protocol):
    """A learning rate over time, as a share of the base rate."""

    def factor(self, step: int, total: int) -> float:
        """The share at ``step`` (0 is the first) of ``total`` steps."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message, "schedule")


def _require_share(value: float, name: str) -> None:
    _require(0 <= value <= 1, f"{name} is {value}; it lies in [0, 1]")


def _progress(step: int, total: int) -> float:
    return min(step / max(total, 1), 1.0)


@dataclass(frozen=True)
class Constant:
    """α(t) = α₀."""

    def factor(self, step: int, total: int) -> float:
        """1 at every step."""
        return 1.0


@dataclass(frozen=True)
class Exponential:
    """α(t) = α₀ · γᵗ.

    Args:
        gamma: Factor of each epoch (or step), in (0, 1].
    """

    gamma: float = 0.95

    def __post_init__(self) -> None:
        _require(0 < self.gamma <= 1, f"gamma is {self.gamma}; it lies in (0, 1]")

    def factor(self, step: int, total: int) -> float:
        """γᵗ."""
        return float(self.gamma**step)


@dataclass(frozen=True)
class InversePower:
    """α(t) = α₀ / (1 + βt)^γ.

    Args:
        beta: How soon the decay begins, from 0; at t = 1/β the rate has fallen by 2^γ.
        gamma: The power, from 0.
    """

    beta: float = 0.01
    gamma: float = 1.0

    def __post_init__(self) -> None:
        _require(self.beta >= 0 and self.gamma >= 0, "beta and gamma of inverse_power are at least 0")

    def factor(self, step: int, total: int) -> float:
        """(1 + βt)^−γ."""
        return float((1 + self.beta * step) ** -self.gamma)


@dataclass(frozen=True)
class Step:
    """α(t) = α₀ · γ^⌊t / every⌋.

    Args:
        every: Epochs (or steps) between two falls, from 1.
        gamma: Factor of each fall, in (0, 1].
    """

    every: int = 10
    gamma: float = 0.1

    def __post_init__(self) -> None:
        _require(self.every >= 1 and 0 < self.gamma <= 1, "step needs every >= 1 and gamma in (0, 1]")

    def factor(self, step: int, total: int) -> float:
        """γ^⌊t / every⌋."""
        return float(self.gamma ** (step // self.every))


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from the full rate down to ``minimum`` of it at the end (Loshchilov & Hutter 2017, eq. 5).

    Args:
        minimum: Share of the base rate at the end, in [0, 1].
    """

    minimum: float = 0.0

    def __post_init__(self) -> None:
        _require_share(self.minimum, "minimum")

    def factor(self, step: int, total: int) -> float:
        """M + (1 − m)(1 + cos(πt/T))/2."""
        return self.minimum + (1 - self.minimum) * (1 + math.cos(math.pi * _progress(step, total))) / 2


@dataclass(frozen=True)
class OneCycle:
    """One cycle of the learning rate, annealed by cosines (Smith & Topin 2018; torch's default form of it).

    The base rate is the peak. Momentum is left alone.

    Args:
        rise: Share of the steps on the way up, in (0, 1).
        start_divisor: The first rate is the peak divided by this, above 1.
        final_divisor: The last rate is the first one divided by this, above 1.
    """

    rise: float = 0.3
    start_divisor: float = 25.0
    final_divisor: float = 1e4

    def __post_init__(self) -> None:
        _require(0 < self.rise < 1, f"rise is {self.rise}; it lies in (0, 1)")
        _require(self.start_divisor > 1 and self.final_divisor > 1, "one_cycle's divisors are above 1")

    def factor(self, step: int, total: int) -> float:
        """Up from 1/start_divisor to 1 at step rise·T − 1, then down; indices as in torch's OneCycleLR."""
        first, peak_at, last = 1 / self.start_divisor, self.rise * total - 1, total - 1
        if step <= peak_at:
            return _cosine_between(first, 1.0, step / peak_at if peak_at > 0 else 1.0)
        progress = (step - peak_at) / (last - peak_at) if last > peak_at else 1.0
        return _cosine_between(1.0, first / self.final_divisor, min(progress, 1.0))


def _cosine_between(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class Multistep:
    """α(t) = α₀ · γ^(number of milestones that t has reached).

    Args:
        milestones: Epochs (or steps) of the falls, rising, from 1.
        gamma: Factor of each fall, in (0, 1].
    """

    milestones: Sequence[int] = (10, 20)
    gamma: float = 0.1

    def __post_init__(self) -> None:
        rising = list(self.milestones) == sorted(set(self.milestones))
        _require(rising and all(m >= 1 for m in self.milestones), "milestones are rising whole numbers from 1")
        _require(0 < self.gamma <= 1, f"gamma is {self.gamma}; it lies in (0, 1]")

    def factor(self, step: int, total: int) -> float:
        """γ to the number of milestones ≤ t."""
        return float(self.gamma ** sum(milestone <= step for milestone in self.milestones))


@dataclass(frozen=True)
class Polynomial:
    """α(t) = α₀ · (m + (1 − m)(1 − t/T)^power); ``linear`` is that with the power 1.

    Args:
        power: Above 0.
        minimum: m, the share of the base rate at the end, in [0, 1].
    """

    power: float = 2.0
    minimum: float = 0.0

    def __post_init__(self) -> None:
        _require(self.power > 0, f"power is {self.power}; it is above 0")
        _require_share(self.minimum, "minimum")

    def factor(self, step: int, total: int) -> float:
        """M + (1 − m)(1 − t/T)^power."""
        return self.minimum + (1 - self.minimum) * float((1 - _progress(step, total)) ** self.power)


@dataclass(frozen=True)
class Linear:
    """α(t) = α₀ · (m + (1 − m)(1 − t/T)).

    Args:
        minimum: m, the share of the base rate at the end, in [0, 1].
    """

    minimum: float = 0.0

    def __post_init__(self) -> None:
        _require_share(self.minimum, "minimum")

    def factor(self, step: int, total: int) -> float:
        """M + (1 − m)(1 − t/T)."""
        return self.minimum + (1 - self.minimum) * (1 - _progress(step, total))


@dataclass(frozen=True)
class CosineRestarts:
    """Half a cosine again and again, each ``growth`` times as long as the one before (Loshchilov & Hutter 2017).

    Args:
        period: Epochs (or steps) of the first one, from 1.
        growth: Factor of the length from one to the next, a whole number from 1.
        minimum: Share of the base rate before each restart, in [0, 1].
    """

    period: int = 10
    growth: int = 1
    minimum: float = 0.0

    def __post_init__(self) -> None:
        _require(self.period >= 1 and self.growth >= 1, "period and growth are at least 1")
        _require_share(self.minimum, "minimum")

    def factor(self, step: int, total: int) -> float:
        """The cosine's, at the step since the last restart."""
        length = self.period
        while step >= length and self.growth > 1:
            step -= length
            length *= self.growth
        return Cosine(self.minimum).factor(step % length, length)


@dataclass(frozen=True)
class Cyclic:
    """A triangle wave between ``minimum`` of the base rate and the base rate (Smith 2017, "triangular").

    Args:
        rise: Steps (or epochs) from the least rate to the base rate, and down again, from 1.
        minimum: Share of the base rate at the start and the end of each cycle, in [0, 1].
    """

    rise: int = 100
    minimum: float = 0.1

    def __post_init__(self) -> None:
        _require(self.rise >= 1, f"rise is {self.rise}; it is at least 1")
        _require_share(self.minimum, "minimum")

    def factor(self, step: int, total: int) -> float:
        """M + (1 − m)(1 − |t/rise mod 2 − 1|)."""
        return self.minimum + (1 - self.minimum) * (1 - abs(step / self.rise % 2 - 1))


@dataclass(frozen=True)
class Rex:
    """Reflected exponential: slow at first, fast at the end (Chen, Wolfe & Kyrillidis 2021)."""

    def factor(self, step: int, total: int) -> float:
        """(1 − t/T) / (1/2 + (1 − t/T)/2)."""
        left = 1 - _progress(step, total)
        return left / (0.5 + 0.5 * left)


@dataclass(frozen=True)
class Wsd:
    """Stable, then decay; warm-up, stable, decay with ``warmup`` (Hu et al. 2024; Hägele et al. 2024).

    Args:
        decay: Share of the steps in the decay, in (0, 1].
        shape: Of the decay: ``linear``, or ``sqrt`` for 1 − √(share of the decay done), Hägele et al.'s best.
        minimum: Share of the base rate at the end, in [0, 1].
    """

    decay: float = 0.2
    shape: Literal["linear", "sqrt"] = "linear"
    minimum: float = 0.0

    def __post_init__(self) -> None:
        _require(0 < self.decay <= 1, f"decay is {self.decay}; it lies in (0, 1]")
        _require(self.shape in ("linear", "sqrt"), f"shape is {self.shape!r}; it is 'linear' or 'sqrt'")
        _require_share(self.minimum, "minimum")

    def factor(self, step: int, total: int) -> float:
        """1 until (1 − decay)T, then down to ``minimum`` at T."""
        done = max(0.0, (_progress(step, total) - (1 - self.decay)) / self.decay)
        return self.minimum + (1 - self.minimum) * (1 - (math.sqrt(done) if self.shape == "sqrt" else done))


@dataclass(frozen=True)
class Plateau:
    """Multiply the rate by ``factor`` when the monitored value has not improved for ``patience`` epochs.

    Unlike the others it is not a function of the step: it reads the validation metric (torch's
    ``ReduceLROnPlateau``), over several processes the mean of theirs.

    Args:
        monitor: Name of a logged value, found in either spelling: ``val/loss`` or ``val_loss``.
        mode: ``min`` where less is better, else ``max``.
        multiplier: Factor of each fall, in (0, 1).
        patience: Epochs without improvement that are let pass.
        minimum: Least learning rate, absolute.
    """

    monitor: str = "val/loss"
    mode: Literal["min", "max"] = "min"
    multiplier: float = 0.1
    patience: int = 10
    minimum: float = 0.0

    def __post_init__(self) -> None:
        _require(self.mode in ("min", "max"), f"mode is {self.mode!r}; it is 'min' or 'max'")
        _require(0 < self.multiplier < 1, f"multiplier is {self.multiplier}; it lies in (0, 1)")
        _require(self.patience >= 0, f"patience is {self.patience}; it is at least 0")
