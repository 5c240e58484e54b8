"""Proposals of a multi-objective evolutionary search, by Optuna's NSGA-II; nothing else here needs optuna."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainoff.benchmarks.search_space import Choice, Range, Space
from trainoff.benchmarks.tuning import Path, dotted
from trainoff.errors import UserError

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Proposal:
    """A point of the space.

    Args:
        number: In the order of proposing, from 0.
        values: Of each searched argument, by path.
    """

    number: int
    values: dict[Path, Any]


class Nsga2:
    """NSGA-II (Deb et al. 2002) over a space: maximises a score and minimises a cost.

    The proposals follow from the seed and from what was told, in the order in which it was told. Tell a whole
    generation before the next one is asked for.

    Args:
        space: What is searched over.
        population: Proposals in a generation.
        seed: Of the search.

    Raises:
        UserError: Where optuna is not installed.
    """

    def __init__(self, space: Space, population: int, seed: int) -> None:
        try:
            import optuna
        except ImportError as error:
            raise UserError("the search needs optuna: pip install trainoff[search]") from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # else a line to standard error for each study
        self._space = space
        self._distributions = {dotted(path): _distribution(domain) for path, domain in space.items()}
        sampler = optuna.samplers.NSGAIISampler(population_size=population, seed=seed)
        self._study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        self._failed = optuna.trial.TrialState.FAIL
        self._values: dict[int, dict[Path, Any]] = {}

    def propose(self) -> Proposal:
        """The next point; it may be one that was proposed before."""
        trial = self._study.ask(self._distributions)
        values = {path: _value(domain, trial.params[dotted(path)]) for path, domain in self._space.items()}
        self._values[trial.number] = values
        return Proposal(trial.number, values)

    def tell(self, proposal: Proposal, objectives: tuple[float, float] | None) -> None:
        """Say what became of a proposal.

        Args:
            proposal: One that was not told yet.
            objectives: Score and cost; ``None`` where it failed.
        """
        if objectives is None:
            self._study.tell(proposal.number, state=self._failed)
        else:
            self._study.tell(proposal.number, objectives)

    def front(self) -> list[dict[Path, Any]]:
        """The values of the points told that no other one dominates, in order of their cost; equal points all."""
        best = sorted(self._study.best_trials, key=lambda trial: (trial.values[1], trial.number))
        return [self._values[trial.number] for trial in best]


def _distribution(domain: Choice | Range) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(domain, Choice):  # by position: optuna's choices are numbers and text only
        return CategoricalDistribution(range(len(domain.values)))
    low, high, step = domain.low, domain.high, domain.step
    if step is not None and domain.size is not None:
        high = float(f"{low + step * (domain.size - 1):.12g}")  # optuna warns of a step that does not end at the bound
    if domain.is_whole:
        return IntDistribution(int(low), int(high), log=domain.is_log, step=1 if step is None else int(step))
    return FloatDistribution(low, high, log=domain.is_log, step=step)


def _value(domain: Choice | Range, chosen: Any) -> Any:
    if isinstance(domain, Choice):
        return domain.values[chosen]
    return int(chosen) if domain.is_whole else float(f"{chosen:.6g}")
