"""Architecture search: NSGA-II over the searched arguments of a suite's task, validation metric against cost.

Each candidate is a task of the suite that the search keeps beside its records, and its trials are normal ones. The
search itself keeps nothing: with the same seed it proposes the same candidates again, and what has a record is not
trained again, so that an interrupted search goes on to what an uninterrupted one gives.

NSGA-II is Optuna's (Deb et al. 2002, A fast and elitist multiobjective genetic algorithm). The kind of search is that
of Elsken, Metzen & Hutter 2019 (two objectives) and, where a net is made of cells, of Liu et al. 2018.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from trainoff.benchmarks.executors.choice import ExecutorChoice, default_workers
from trainoff.benchmarks.executors.outcome import Executor
from trainoff.benchmarks.known_records import KnownRecords
from trainoff.benchmarks.nsga2 import Nsga2, Proposal
from trainoff.benchmarks.pairs import Pair, PlannedTask, placed, take_stock
from trainoff.benchmarks.record import Record
from trainoff.benchmarks.rehearsal import rehearse
from trainoff.benchmarks.runner import Progress, Run, Watch, claim
from trainoff.benchmarks.search_space import COSTS, candidate_data, candidate_name, size_of, space_of
from trainoff.benchmarks.store import RunFolder
from trainoff.benchmarks.suite import Suite, parse_suite
from trainoff.benchmarks.task_checks import check_metric
from trainoff.benchmarks.tuning import Path as KeyPath
from trainoff.benchmarks.tuning import dotted, mean_score
from trainoff.errors import UserError

MOST_FINALISTS = 8
_MOST_STALE_GENERATIONS = 20
_COST_FIELDS = dict(zip(COSTS, ("parameters", "flops_per_sample", "latency_seconds"), strict=True))


@dataclass(frozen=True)
class Plan:
    """How a search goes.

    Args:
        trials: Different candidates to try.
        cost: ``parameters``, ``flops`` (of a training step, for one sample) or ``latency``; empty for the suite's.
        population: Candidates in a generation, which are trained side by side.
        seed: Of the search; not of any training.
    """

    trials: int
    cost: str = ""
    population: int = 8
    seed: int = 0


def run_search(
    suite: Suite,
    folder: Path,
    plan: Plan,
    workers: int | None = None,
    classes: Mapping[str, Any] | None = None,
    watch: Watch = lambda progress: None,
) -> Progress:
    """Search until so many candidates were tried, then train those of the front on the final seeds.

    A candidate is tried on the tuning seeds, by the validation metric; test plays no part. One that fails is told to
    the search as failed and keeps its record. Of a front of more than :data:`MOST_FINALISTS` candidates so many are
    trained further, evenly over it, both its ends among them.

    Args:
        suite: With one task, in whose module values stand to be searched, and one recipe.
        folder: The run folder; made where it is missing.
        plan: How.
        workers: Processes. By default one a processor, and one alone where the cost is latency.
        classes: Classes that workers cannot import, by class path.
        watch: Called whenever the numbers change.

    Raises:
        UserError: For a suite without a search or with several tasks or recipes, a number that makes no sense, a
            missing optuna, or a mistake that every candidate of the first generation shows.
    """
    _check(suite)
    for name, value, least in (
        ("--trials", plan.trials, 1),
        ("--population", plan.population, 2),
        ("--seed", plan.seed, 0),
    ):
        if value < least:
            raise UserError(f"{value} is too few; at least {least}", name)
    plan = replace(plan, cost=plan.cost or (suite.data.get("search") or {}).get("cost", COSTS[0]))
    used = workers or (1 if plan.cost == "latency" else default_workers())
    candidates = _Candidates(suite, plan)  # without the lock, so that a mistake leaves nothing
    with RunFolder(folder) as run_folder:
        return _Search(candidates, run_folder, used, dict(classes or {}), watch).run()


def _check(suite: Suite) -> None:
    if not any(space_of(task.module) for task in suite.tasks):
        raise UserError(
            f"nothing is to be searched in '{suite.name}'; write `hidden: {{search: [[64], [128]]}}` in its net, or "
            "use `trainoff run`", suite.place(suite.tasks[0].name, key="module"),
        )  # fmt: skip
    for kind, found in (("task", suite.tasks), ("recipe", suite.recipes)):
        if len(found) > 1:
            raise UserError(f"a search is over one {kind}; '{suite.name}' has {len(found)}")


class _Candidates:
    """What was proposed so far, and the suite and pairs that it makes."""

    def __init__(self, suite: Suite, plan: Plan) -> None:
        self._given = suite
        self._task: Mapping[str, Any] = suite.data["tasks"][suite.tasks[0].name]
        space = space_of(self._task["module"])
        self.plan = plan
        self.most = min(plan.trials, size_of(space) or plan.trials)
        self._nsga2 = Nsga2(space, plan.population, plan.seed)
        self._values: dict[str, dict[KeyPath, Any]] = {}
        self._stale = 0
        self._first = self._propose()
        self._planned = self._begin()

    def __len__(self) -> int:
        return len(self._values)

    def generations(self) -> Iterator[dict[str, list[Proposal]]]:
        """One after the other, each once the one before it was told: proposals by candidate, in their order."""
        generation = self._first
        while generation:
            yield generation
            generation = self._propose()

    def _propose(self) -> dict[str, list[Proposal]]:
        """A generation, cut where there are enough candidates; empty where there are, or nothing new comes."""
        known, generation = len(self), dict[str, list[Proposal]]()
        if self._stale == _MOST_STALE_GENERATIONS:
            return {}
        for _ in range(self.plan.population):
            if len(self) == self.most:
                break
            proposal = self._nsga2.propose()
            name = candidate_name(self._given.tasks[0].name, proposal.values)
            self._values.setdefault(name, proposal.values)
            generation.setdefault(name, []).append(proposal)
        self._stale = 0 if len(self) > known else self._stale + 1
        return generation

    def _begin(self) -> PlannedTask:
        """Load the data, and begin candidates of the first generation until one goes well.

        One that cannot be begun is a result; where none can, the suite is wrong.
        """
        suite = self.suite()
        complaint: UserError | None = None
        for task in suite.tasks:
            try:
                planned = PlannedTask(suite, task)
                pair = planned.pairs[0]
                with placed(suite, task.name, pair.recipe.name):
                    check_metric(planned.module, task)
                    rehearse(next(pair.tuning_trials()), planned.datamodule)
                return planned
            except UserError as error:
                complaint = complaint or error
        assert complaint is not None
        raise complaint

    def tell(self, generation: Mapping[str, Sequence[Proposal]], pairs: Mapping[str, Pair]) -> None:
        """Tell the objectives of a generation, in the order of its proposals, whichever finished first."""
        told = [(proposal, name) for name, proposals in generation.items() for proposal in proposals]
        for proposal, name in sorted(told, key=lambda item: item[0].number):
            self._nsga2.tell(proposal, self.objectives(pairs[name].results()))

    def objectives(self, records: Sequence[Record]) -> tuple[float, float] | None:
        """Mean validation metric, signed so that more is better, and median cost; ``None`` where either is missing."""
        score = mean_score(records)
        costs = [getattr(record.cost, _COST_FIELDS[self.plan.cost]) for record in records]
        return None if score is None or None in costs else (score, float(statistics.median(costs)))

    def front(self) -> list[str]:
        """The candidates that no other one dominates, in order of their cost."""
        task = self._given.tasks[0].name
        return list(dict.fromkeys(candidate_name(task, values) for values in self._nsga2.front()))

    def suite(self, finalists: Collection[str] = ()) -> Suite:
        """The suite with each candidate so far as a task.

        Args:
            finalists: Those that are trained on the final seeds too.
        """
        of = self._given.tasks[0].name
        tasks = {
            name: candidate_data(self._task, of, values, name in finalists) for name, values in self._values.items()
        }
        data = {**self._given.data, "tasks": tasks, "search": {"cost": self.plan.cost}}
        source = self._given.source
        return replace(parse_suite(data, _place if source is None else source.where), source=source)

    def pairs(self, suite: Suite, names: Collection[str]) -> list[Pair]:
        """The pairs of some candidates, without records."""
        return [pair for task in suite.tasks if task.name in names for pair in self._planned.pairs_of(suite, task)]


class _Search(Run):
    """One call of :func:`run_search`."""

    def __init__(
        self, candidates: _Candidates, folder: RunFolder, workers: int, classes: dict[str, Any], watch: Watch
    ) -> None:
        super().__init__(candidates.suite(), [], folder, ExecutorChoice(workers=workers), "", classes, watch)
        self._candidates = candidates
        self._by_name: dict[str, Pair] = {}
        self.known = KnownRecords.of(folder)
        self._known, self.known.records = self.known.records, {}
        self._each = len(self.suite.recipes[0].settings) * len(self.suite.tune_seeds)
        self._most_at_once = self._each * min(candidates.plan.population, candidates.most)
        self.progress = Progress(self._each * candidates.most, notes=self.known.complaints)

    def run(self) -> Progress:
        """Search, then train the front."""
        with self.executor() as executor:
            for generation in self._candidates.generations():
                fresh = [name for name in generation if name not in self._by_name]
                if fresh:
                    self._train(executor, self._candidates.pairs(self._candidates.suite(), fresh))
                self._candidates.tell(generation, self._by_name)
            finalists = self._finalists()
            self._note_early_end(len(finalists))
            suite = self._candidates.suite(finalists)
            self._train(executor, self._candidates.pairs(suite, finalists))
        claim(self.folder, suite)
        self._set_others_aside()
        self.tell_kills()
        return self.progress

    def most_at_once(self) -> int:
        """A generation is told before the next one is proposed."""
        return self._most_at_once

    def _train(self, executor: Executor[Any, Record], pairs: list[Pair]) -> None:
        """Train what is missing of some candidates; the suite is written before the first of their trials."""
        for pair in pairs:
            self.suite = pair.suite
            records = {
                key: record
                for key, record in self._known.items()
                if (record.trial.task, record.trial.recipe) == (pair.task.name, pair.recipe.name)
            }
            if pair.task.name in self._by_name:
                records |= self._by_name[pair.task.name].records
            superseded = take_stock(pair.suite, [pair], records, self.rerun)
            self.set_aside(superseded)
            self._known = {key: record for key, record in self._known.items() if key not in superseded}
            self._by_name[pair.task.name] = pair
        missing = self.first_trials(pairs)
        first = next(missing, None)
        self.watch(self.progress)
        if first is not None:
            claim(self.folder, self.suite)
            self.finish(executor, chain([first], missing))

    def refuse(self, pair: Pair, error: UserError) -> None:
        """A candidate that cannot be trained is a result of the search, and its record says why."""

    def _finalists(self) -> list[str]:
        front = self._candidates.front()
        if len(front) <= MOST_FINALISTS:
            return front
        self.progress.notes.append(
            f"{len(front)} candidates are on the front; {MOST_FINALISTS} of them, evenly over it, are trained on the "
            "final seeds"
        )
        return [front[round(place * (len(front) - 1) / (MOST_FINALISTS - 1))] for place in range(MOST_FINALISTS)]

    def _note_early_end(self, finalists: int) -> None:
        tried, asked = len(self._candidates), self._candidates.plan.trials
        if tried < asked:
            why = "there are no others" if tried == self._candidates.most else "nothing new was proposed any more"
            self.progress.notes.append(f"{tried} candidates were tried, not {asked}: {why}")
        if not finalists:
            self.progress.notes.append(
                f"no candidate has both a validation metric and {self._candidates.plan.cost}, so there is no front"
            )
        self.progress.total = self._each * tried + len(self.suite.final_seeds) * finalists
        self.watch(self.progress)

    def _set_others_aside(self) -> None:
        used = {key for pair in self._by_name.values() for key in pair.records}
        left = [record.trial for key, record in self._known.items() if key not in used]
        self.set_aside({trial.id: f"no longer in the search ({trial.task})" for trial in left})
        self.watch(self.progress)


def _place(*path: str | int) -> str:
    return dotted(path) or "suite"
