"""Generated lead sheets: melodies over chords, whose entropy is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from trainoff.datamodules.facts.entry import DataModuleEntry
from trainoff.datamodules.facts.token_sets import MELODIES
from trainoff.datamodules.text import check_shares, cut
from trainoff.datamodules.token_datamodule import TokenDataModule
from trainoff.datamodules.unifilar_source import Arc, UnifilarSource

_BEATS = 4
# C major: each chord's own notes, and what it may be followed by, with weights
_NOTES = {"C": "c e g", "Am": "a c e", "F": "f a c", "G": "g b d"}
_NEXT = {"C": {"F": 3, "G": 3, "Am": 2}, "Am": {"F": 3, "G": 1}, "F": {"G": 3, "C": 2}, "G": {"C": 4, "Am": 1}}
_SCALE = "c d e f g a b"
_CHORD_NOTE, _OTHER_NOTE = 4, 1


class Melodies(TokenDataModule):
    """Generated melodies in C major over chords, as tokens: ``|G``, a bar with its chord; ``b/2``, b for two beats.

    A bar has four beats; its notes are mostly those of its chord. A model of them needs ``entropy_bits_per_token``
    (2.36) bits a token in the long run, and no model needs fewer. The first part trains, the next validates, the last
    tests.

    Args:
        bars: Of all parts.
        length: Tokens in a window.
        val_fraction: The share that validates.
        test_fraction: The share that tests.
        batch_size: See :class:`TokenDataModule`.
        microbatches: Parts of each training batch.

    Raises:
        UserError: Where a share is out of range, or a part has not one window.
    """

    facts: ClassVar[DataModuleEntry] = MELODIES

    def __init__(
        self,
        bars: int = 20_000,
        length: int = 64,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        batch_size: int | Literal["full"] = 32,
        microbatches: int = 1,
    ) -> None:
        super().__init__("words", length, 1000, batch_size, microbatches)
        check_shares(val_fraction, test_fraction)
        self.bars, self.shares = bars, (val_fraction, test_fraction)
        self.entropy_bits_per_token = melody_source().entropy_bits()

    def load_texts(self) -> Mapping[str, str]:
        """The three parts."""
        return cut(melodies(self.bars), *self.shares)


def melody_source() -> UnifilarSource:
    """The source: a chord for each bar, by the one before; then notes until its four beats are full."""
    arcs: dict[str, list[Arc]] = {}
    for chord, notes in _NOTES.items():
        for beat in range(_BEATS):
            arcs[f"{chord} {beat}"] = [
                Arc(f" {note}/{beats}", weight, _after(chord, beat + beats))
                for note in _SCALE.split()
                for beats in (1, 2)
                if beat + beats <= _BEATS and (weight := _weight(note, notes, beats))
            ]
        arcs[f"{chord} full"] = [Arc(f" |{other}", weight, f"{other} 0") for other, weight in _NEXT[chord].items()]
    return UnifilarSource(arcs, "G full")


def _weight(note: str, chord: str, beats: int) -> int:
    """Long notes are those of the chord."""
    if note in chord.split():
        return _CHORD_NOTE * (3 - beats)
    return _OTHER_NOTE * (2 - beats)


def _after(chord: str, beat: int) -> str:
    return f"{chord} full" if beat == _BEATS else f"{chord} {beat}"


def melodies(bars: int, seed: int = 0) -> str:
    """So many bars."""
    pieces: list[str] = []
    for symbol in melody_source().symbols(seed, "melodies"):
        bars -= symbol.startswith(" |")
        if bars < 0:
            break
        pieces.append(symbol)
    return "".join(pieces).lstrip()
