"""Generated pairs for sequence to sequence: reverse, sort, and dates."""

from __future__ import annotations

import datetime
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar, Literal

from trainoff.datamodules.facts.entry import DataModuleEntry
from trainoff.datamodules.facts.token_sets import PAIRS
from trainoff.datamodules.pairs_datamodule import Pair, PairsDataModule, split_pairs
from trainoff.datamodules.splits import random_words
from trainoff.datamodules.vocabularies import Tokens
from trainoff.errors import UserError

Kind = Literal["reverse", "sort", "dates"]

_MONTHS = ["January", "February", "March", "April", "May", "June"]
_MONTHS += ["July", "August", "September", "October", "November", "December"]
_FIRST_DAY, _DAYS = datetime.date(1900, 1, 1).toordinal(), 73_049  # to 31 December 2099
_MOST_SAMPLES = 50_000
_SHORTEST, _LONGEST = 4, 12


class SyntheticPairs(PairsDataModule):
    """Distinct generated pairs whose target is a function of the source, so that every one can be got right.

    Args:
        kind: ``reverse``: 4 to 12 letters, from the last to the first; ``sort``: 4 to 12 digits, in rising order;
            ``dates``: a date between 1900 and 2099 in one of five English forms, as ``1997-03-03``. No date, and no
            other source, is in two splits.
        samples: Pairs over all splits.
        tokens: ``characters``, ``bytes``, ``words`` or ``bpe``.
        length: The most tokens of a source and of a target; longer pairs are left out.
        vocabulary: The most tokens that ``words`` and ``bpe`` keep.
        split_seed: The seed of the split; the pairs do not depend on it.
        val_fraction: The share of the pairs that validates.
        test_fraction: The share of the pairs that tests.
        batch_size: See :class:`PairsDataModule`.
        microbatches: Parts of each training batch.

    Raises:
        UserError: For another kind, for more samples than 50,000 or fewer than 10.
    """

    facts: ClassVar[DataModuleEntry] = PAIRS

    def __init__(
        self,
        kind: Kind = "reverse",
        samples: int = 10_000,
        tokens: Tokens = "characters",
        length: int = 64,
        vocabulary: int = 1000,
        split_seed: int = 0,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        batch_size: int | Literal["full"] = 64,
        microbatches: int = 1,
    ) -> None:
        super().__init__(tokens, length, vocabulary, batch_size, microbatches)
        if kind not in _GENERATORS:
            raise UserError(f"{kind!r} is none of {', '.join(_GENERATORS)}", "kind")
        if not 10 <= samples <= _MOST_SAMPLES:
            raise UserError(f"{samples} is not from 10 to {_MOST_SAMPLES:,}", "samples")
        self.kind, self.samples, self.split_arguments = kind, samples, (split_seed, val_fraction, test_fraction)

    def load_pairs(self) -> Mapping[str, Sequence[Pair]]:
        """The pairs, cut by the seed."""
        return split_pairs(generate_pairs(self.kind, self.samples), *self.split_arguments)


def generate_pairs(kind: Kind, count: int) -> list[Pair]:
    """The first ``count`` pairs of a kind, the same ones in every version; no source comes twice."""
    pairs: dict[str, str] = {}
    for source, target in _GENERATORS[kind]():
        pairs.setdefault(source, target)
        if len(pairs) == count:
            break
    return list(pairs.items())


def written_date(date: datetime.date, form: int) -> str:
    """A date in one of five English forms, numbered from 0."""
    month = _MONTHS[date.month - 1]
    teens = 11 <= date.day <= 13
    ending = "th" if teens else {1: "st", 2: "nd", 3: "rd"}.get(date.day % 10, "th")
    return (
        f"{date.day} {month} {date.year}",
        f"{month} {date.day}, {date.year}",
        f"the {date.day}{ending} of {month} {date.year}",
        f"{date.day} {month[:3]} {date.year}",
        f"{date.day}.{date.month}.{date.year}",
    )[form]


def _strings(kind: Kind, symbols: str) -> Iterator[str]:
    """Strings of 4 to 12 symbols, all lengths and all symbols equally likely."""
    words = _words(f"pairs {kind}")
    while True:
        length = _SHORTEST + next(words) % (_LONGEST - _SHORTEST + 1)
        yield "".join(symbols[next(words) % len(symbols)] for _ in range(length))


def _words(purpose: str) -> Iterator[int]:
    # the most that is ever needed: it is one fixed stream, whatever the number of samples
    yield from random_words(2 * _MOST_SAMPLES * (_LONGEST + 1), 0, purpose).tolist()


def _reversals() -> Iterator[Pair]:
    return ((source, source[::-1]) for source in _strings("reverse", string.ascii_lowercase))


def _sortings() -> Iterator[Pair]:
    return ((source, "".join(sorted(source))) for source in _strings("sort", string.digits))


def _dates() -> Iterator[Pair]:
    words = _words("pairs dates")
    seen = set()
    while True:
        day, form = next(words) % _DAYS, next(words) % 5
        if day not in seen:
            seen.add(day)
            date = datetime.date.fromordinal(_FIRST_DAY + day)
            yield written_date(date, form), date.isoformat()


_GENERATORS: dict[str, Callable[[], Iterator[Pair]]] = {"reverse": _reversals, "sort": _sortings, "dates": _dates}
