"""Gradual magnitude pruning: sparsity grows by a cubic schedule while the net trains."""

from __future__ import annotations

from collections.abc import Sequence

import lightning as L

from trainoff.errors import UserError
from trainoff.modules.pruning.base import check_share
from trainoff.modules.pruning.criteria import Scope
from trainoff.modules.pruning.magnitude import ByMagnitude


def cubic_sparsity(final: float, initial: float, progress: float) -> float:
    """The sparsity s = s_f + (s_i − s_f)(1 − p)³ (Zhu & Gupta 2017, equation 1).

    Args:
        final: s_f.
        initial: s_i.
        progress: p = (t − t₀)/(nΔt), in [0, 1].
    """
    return final + (initial - final) * (1 - progress) ** 3


class CubicSchedule:
    """When sparsity grows, and how far: ``updates + 1`` times at equal distances, first to the initial sparsity.

    Args:
        sparsity: In the end, in [0, 1).
        initial: At the start.
        start: Share of the training at which pruning begins, in [0, 1).
        end: Share at which it ends, in (start, 1).
        updates: n.

    Raises:
        UserError: For numbers out of range.
    """

    def __init__(self, sparsity: float, initial: float, start: float, end: float, updates: int) -> None:
        check_share(sparsity, "sparsity")
        check_share(initial, "initial")
        check_share(start, "start")
        check_share(end, "end")
        if initial > sparsity:
            raise UserError(f"sparsity grows from {initial} to {sparsity}: the first is the larger", "initial")
        if end <= start:
            raise UserError(f"pruning ends at {end} of the training, and starts at {start}", "end")
        if updates < 1:
            raise UserError(f"sparsity grows at least once, not {updates} times", "updates")
        self.sparsity, self.initial, self.start, self.end, self.updates = sparsity, initial, start, end, updates

    def due(self, step: int, total: int) -> int:
        """How many of the prunings are due at a step (from 0) of so many."""
        first, last = int(self.start * total), int(self.end * total)
        if step < first:
            return 0
        if step >= last:
            return self.updates + 1
        return (step - first) * self.updates // (last - first) + 1

    def at(self, number: int) -> float:
        """Sparsity after so many prunings, from 1."""
        return cubic_sparsity(self.sparsity, self.initial, (number - 1) / self.updates)


class Gradual(ByMagnitude):
    """Prunes the smallest weights more and more: fast at first, slowly in the end (Zhu & Gupta 2017).

    Args:
        sparsity: s_f, share that is pruned in the end, in [0, 1).
        initial: s_i, share that the first pruning prunes.
        start: Share of the training at which pruning begins, in [0, 1).
        end: Share at which the final sparsity is reached, above ``start`` and below 1.
        updates: n, how many prunings follow the first one.
        scope: ``local`` ranks in each layer, ``global`` all layers together.
        structured: Prune whole units; see ``magnitude``.
        exclude: Shell patterns of parameter names that are not pruned. Biases, norms and embeddings never are.

    Raises:
        UserError: For numbers out of range.
    """

    def __init__(
        self,
        sparsity: float = 0.8,
        initial: float = 0.0,
        start: float = 0.1,
        end: float = 0.7,
        updates: int = 20,
        scope: Scope = "local",
        structured: bool = False,
        exclude: Sequence[str] = (),
    ) -> None:
        super().__init__(sparsity, scope, structured, exclude)
        self._schedule = CubicSchedule(sparsity, initial, start, end, updates)
        self.initial, self.start, self.end, self.updates = initial, start, end, updates
        self._prunings = 0

    def _forget(self) -> None:
        super()._forget()
        self._prunings = 0

    def before_step(self, trainer: L.Trainer, module: L.LightningModule, step: int) -> None:
        """Prune where it is due."""
        due = self._schedule.due(step, self._total_steps)
        if due > self._prunings:
            self.set_masks(trainer, self.smallest(module, self._schedule.at(due)))
            self._prunings = due
            self.is_done = due > self.updates

    def state_dict(self) -> dict[str, object]:
        """How far it is, too."""
        return {**super().state_dict(), "prunings": self._prunings}

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        """Restore that."""
        super().load_state_dict(state_dict)
        self._prunings = state_dict["prunings"]  # type: ignore[assignment]
