"""A generated corpus of plain sentences whose entropy is known, so that a language model needs no download."""

from __future__ import annotations

from collections.abc import Sequence

from trainoff.datamodules.unifilar_source import Arc, UnifilarSource

_DETERMINERS = {"one": "this each that every another", "more": "these many those several some few two three"}
_NOUNS = "dog child bird teacher farmer cat king river sailor doctor tree writer horse garden stone singer star boat"
_VERBS = "see find hear follow know help draw paint call remember count believe"
_ADJECTIVES = "old small green quiet young happy round bright cold strange little golden"
_ADVERBS = "often never always seldom gladly slowly"


def sentences_source() -> UnifilarSource:
    """The source: subject, verb and object, where a verb agrees with its subject over adjectives and a clause.

    ``These old farmers that hear a bird never follow the boat. ``: each symbol is a word with the space before it, or
    the end of a sentence, so that the text tells the symbols, and the text's entropy is that of the symbols.
    """
    arcs: dict[str, list[Arc]] = {"start": _determiners("subject", capital=True)}
    for subject in ("one", "more"):
        arcs[f"subject {subject}"] = _noun_phrase(subject, f"subject {subject}", f"subject {subject} said")
        verbs = _words(_verbs(subject), f"object of {subject}")
        adverbs = _words(_ADVERBS.split(), f"verb {subject}", share=20)
        clause = Arc(" that", 40, f"clause {subject}")
        arcs[f"subject {subject} said"] = [*verbs, *adverbs, clause]
        arcs[f"verb {subject}"] = verbs
        arcs[f"clause {subject}"] = _words(_verbs(subject), f"clause object {subject}")
        arcs[f"clause object {subject}"] = _determiners(f"clause object {subject}")
        arcs[f"object of {subject}"] = _determiners("object")
        for number in ("one", "more"):
            # after the clause, the verb that agrees with a subject further back
            state = f"clause object {subject} {number}"
            arcs[state] = _noun_phrase(number, state, f"verb {subject}")
    for number in ("one", "more"):
        arcs[f"object {number}"] = _noun_phrase(number, f"object {number}", "end")
    arcs["end"] = [Arc(". ", 4, "start"), Arc(".\n", 1, "start"), Arc(" while", 1, "while")]
    arcs["while"] = _determiners("subject")
    return UnifilarSource(arcs, "start")


def sentences(characters: int, seed: int = 0) -> str:
    """So many characters of sentences, ASCII only."""
    pieces, length = [], 0
    for symbol in sentences_source().symbols(seed, "sentences"):
        pieces.append(symbol)
        length += len(symbol)
        if length >= characters:
            break
    return "".join(pieces)[:characters]


def entropy_bits_per_byte() -> float:
    """The least bits per byte that a model of the sentences can reach in the long run."""
    source = sentences_source()
    return source.entropy_bits() / source.mean_of(len)


def _words(words: Sequence[str], state: str, share: int = 100) -> list[Arc]:
    """Arcs to one state, the words' weights falling as 1/rank, as in Zipf's law."""
    return [Arc(f" {word}", max(1, share // (rank + 1)), state) for rank, word in enumerate(words)]


def _determiners(phrase: str, capital: bool = False) -> list[Arc]:
    arcs = [arc for number, words in _DETERMINERS.items() for arc in _words(words.split(), f"{phrase} {number}")]
    return [Arc(arc.symbol[1:].capitalize(), arc.weight, arc.next) for arc in arcs] if capital else arcs


def _noun_phrase(number: str, state: str, after: str) -> list[Arc]:
    """Any number of adjectives, then the noun."""
    ending = "" if number == "one" else "s"
    nouns = [("children" if noun + ending == "childs" else noun + ending) for noun in _NOUNS.split()]
    return [*_words(nouns, after), *_words(_ADJECTIVES.split(), state, share=40)]


def _verbs(subject: str) -> list[str]:
    return [verb + ("s" if subject == "one" else "") for verb in _VERBS.split()]
