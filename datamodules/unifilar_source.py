"""Random sources of symbols whose entropy is known in closed form, for generated text and music."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainoff.seeds import derive_seed

_BLOCK = 4096  # random words drawn at once; their stream does not depend on it


@dataclass(frozen=True)
class Arc:
    """One way out of a state: it writes ``symbol`` with a probability in proportion to ``weight``."""

    symbol: str
    weight: int
    next: str


class UnifilarSource:
    """A finite automaton that writes symbols at random, and in which past symbols tell the state.

    That is what unifilar means: of all arcs that leave a state no two write the same symbol. The entropy of the
    symbols is then a mean over states, Σₛ πₛ H(arcs of s), with π the stationary distribution; no predictor does
    better in the long run.

    Args:
        arcs: The ways out of each state; every state can be reached from every other.
        start: The state before the first symbol.

    Raises:
        ValueError: Where two arcs of a state write the same symbol.

    Source: Shannon 1948, A mathematical theory of communication, section 7; Cover and Thomas 2006, Elements of
    information theory, theorem 4.2.4.
    """

    def __init__(self, arcs: Mapping[str, Sequence[Arc]], start: str) -> None:
        for state, ways in arcs.items():
            if len({arc.symbol for arc in ways}) < len(ways):
                raise ValueError(f"two arcs of the state {state!r} write the same symbol")
        self.arcs = {state: tuple(ways) for state, ways in arcs.items()}
        self.start = start

    def symbols(self, seed: int, purpose: str) -> Iterator[str]:
        """The symbols without an end; the same ones in every version for a given seed and purpose."""
        bounds = {state: list(itertools.accumulate(arc.weight for arc in ways)) for state, ways in self.arcs.items()}
        state = self.start
        for word in _random_words(derive_seed(seed, purpose)):
            sums = bounds[state]
            arc = self.arcs[state][bisect.bisect_right(sums, word % sums[-1])]
            yield arc.symbol
            state = arc.next

    def stationary(self) -> dict[str, float]:
        """The share of the time that is spent in each state, in the long run."""
        places = {state: place for place, state in enumerate(self.arcs)}
        moves: npt.NDArray[np.float64] = np.zeros((len(places), len(places)))
        for state, ways in self.arcs.items():
            total = sum(arc.weight for arc in ways)
            for arc in ways:
                moves[places[state], places[arc.next]] += arc.weight / total
        # π (P − 1) = 0 and Σ π = 1
        equations = np.vstack([moves.T - np.eye(len(places)), np.ones(len(places))])
        shares = np.linalg.lstsq(equations, np.append(np.zeros(len(places)), 1.0), rcond=None)[0]
        return dict(zip(places, shares.tolist(), strict=True))

    def entropy_bits(self) -> float:
        """The entropy rate, in bits a symbol."""
        return self._mean(lambda arc, probability: -math.log2(probability))

    def mean_of(self, value: Callable[[str], float]) -> float:
        """The mean of a number that each symbol has, such as its length."""
        return self._mean(lambda arc, _: value(arc.symbol))

    def code_bits(self, symbols: Iterable[str]) -> float:
        """Minus the binary logarithm of the probability that the source writes these symbols first, in bits."""
        bits, state = 0.0, self.start
        for symbol in symbols:
            ways = {arc.symbol: arc for arc in self.arcs[state]}
            if symbol not in ways:
                return math.inf
            bits -= math.log2(ways[symbol].weight / sum(arc.weight for arc in ways.values()))
            state = ways[symbol].next
        return bits

    def _mean(self, value: Callable[[Arc, float], float]) -> float:
        total = 0.0
        for state, share in self.stationary().items():
            weights = sum(arc.weight for arc in self.arcs[state])
            total += share * sum(arc.weight / weights * value(arc, arc.weight / weights) for arc in self.arcs[state])
        return total


def _random_words(seed: int) -> Iterator[int]:
    """The raw output of PCG64, which NumPy promises not to change."""
    generator = np.random.PCG64(seed)
    while True:
        yield from generator.random_raw(_BLOCK).tolist()
