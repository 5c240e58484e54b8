"""Learning-rate schedules: pure functions of the step, so that a rate can be plotted without training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainoff.registry import Entry, Registry

Interval = Literal["step", "epoch"]


@dataclass(frozen=True)
class ScheduleEntry(Entry):
    """A schedule's entry.

    Args:
        interval: What ``t`` counts by default: optimizer steps or epochs.
        needs_total: The schedule ends, so the budget must say when.
    """

    interval: Interval = "step"
    needs_total: bool = False


_HOME = "trainoff.modules.schedule_functions"

SCHEDULES = Registry(
    "schedule",
    [
        ScheduleEntry("constant", f"{_HOME}:Constant", "the same rate throughout", "α(t) = α₀"),
        ScheduleEntry(
            "exponential",
            f"{_HOME}:Exponential",
            "a constant factor each epoch",
            "α(t) = α₀ · γᵗ",
            interval="epoch",
        ),
        ScheduleEntry(
            "inverse_power",
            f"{_HOME}:InversePower",
            "decay by a power of the step",
            "α(t) = α₀ / (1 + βt)^γ",
            "Robbins & Monro 1951, A stochastic approximation method (γ in (1/2, 1])",
        ),
        ScheduleEntry(
            "step",
            f"{_HOME}:Step",
            "a factor every so many epochs",
            "α(t) = α₀ · γ^⌊t / every⌋",
            interval="epoch",
        ),
        ScheduleEntry(
            "multistep",
            f"{_HOME}:Multistep",
            "a factor at each of the given epochs",
            "α(t) = α₀ · γ^|{m ∈ milestones : m ≤ t}|",
            interval="epoch",
        ),
        ScheduleEntry(
            "linear",
            f"{_HOME}:Linear",
            "down to the least rate in a straight line",
            "α(t) = α₀ · (m + (1 − m)(1 − t/T))",
            needs_total=True,
        ),
        ScheduleEntry(
            "polynomial",
            f"{_HOME}:Polynomial",
            "down to the least rate by a power of what is left",
            "α(t) = α₀ · (m + (1 − m)(1 − t/T)^power)",
            needs_total=True,
        ),
        ScheduleEntry(
            "cosine",
            f"{_HOME}:Cosine",
            "half a cosine from the full rate to the least one",
            "α(t) = α₀ · (m + (1 − m) · (1 + cos(πt/T)) / 2)",
            "Loshchilov & Hutter 2017, SGDR: stochastic gradient descent with warm restarts, eq. 5",
            needs_total=True,
        ),
        ScheduleEntry(
            "cosine_restarts",
            f"{_HOME}:CosineRestarts",
            "half a cosine again and again, each longer than the last by a factor",
            "α(t) = α₀ · (m + (1 − m)(1 + cos(πs/Tᵢ))/2), s since the last restart, Tᵢ = growth · Tᵢ₋₁",
            "Loshchilov & Hutter 2017, SGDR: stochastic gradient descent with warm restarts, eq. 5",
            interval="epoch",
        ),
        ScheduleEntry(
            "cyclic",
            f"{_HOME}:Cyclic",
            "a triangle wave between a least rate and the full one",
            "α(t) = α₀ · (m + (1 − m)(1 − |t/rise mod 2 − 1|))",
            "Smith 2017, Cyclical learning rates for training neural networks",
        ),
        ScheduleEntry(
            "rex",
            f"{_HOME}:Rex",
            "slow decay at first, fast at the end",
            "α(t) = α₀ · (1 − t/T) / (1/2 + (1 − t/T)/2)",
            "Chen, Wolfe & Kyrillidis 2021, REX: revisiting budgeted training with an improved schedule",
            needs_total=True,
        ),
        ScheduleEntry(
            "wsd",
            f"{_HOME}:Wsd",
            "the full rate, then a decay at the end; with warm-up it is warm-up, stable, decay",
            "α(t) = α₀ until (1 − decay)T, then down to m·α₀ at T",
            "Hu et al. 2024, MiniCPM; Hägele et al. 2024, Scaling laws and compute-optimal training, section 3",
            needs_total=True,
        ),
        ScheduleEntry(
            "one_cycle",
            f"{_HOME}:OneCycle",
            "up to the full rate and down below the start, by cosines",
            "α₀/d → α₀ over the first share of the steps, then α₀ → α₀/(d·e)",
            "Smith & Topin 2018, Super-convergence: very fast training using large learning rates",
            needs_total=True,
        ),
        ScheduleEntry(
            "plateau",
            f"{_HOME}:Plateau",
            "a factor each time the validation metric stops improving",
            "α ← factor · α after `patience` epochs without improvement",
            interval="epoch",
        ),
    ],
    ScheduleEntry,
    "trainoff.schedules",
)
