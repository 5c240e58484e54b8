"""Which tokens a masked language model has to guess: a function of a sample's content and a seed."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

# SplitMix64's numbers (Steele, Lea & Flood 2014), as signed integers; products wrap around.
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64

MASKED, RANDOM = 0.8, 0.1  # shares of the chosen places; the rest keep their token


def _mixed(x: Tensor) -> Tensor:
    """Each integer scrambled, so that neighbours have nothing to do with each other."""
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """To the right, zeros coming in at the left."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def random_numbers(tokens: Tensor, seed: int, streams: int, padding_id: int | None = None) -> Tensor:
    """Pseudo-random integers for each place, from the sample's content, the place and the seed alone.

    However batches are cut, on however many devices, and whatever else draws random numbers: a sample gets the same.

    Args:
        tokens: (batch, length), int64, from 0 to 2³² − 1.
        seed: Of 63 bits.
        streams: How many numbers for each place.
        padding_id: Is no content, so that it does not matter how far a sample is padded.

    Returns:
        (streams, batch, length), int64, from 0 to 2⁶² − 1.
    """
    places = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
    content = _mixed(tokens + places * 2**32)
    if padding_id is not None:
        content = content.masked_fill(tokens == padding_id, 0)
    keys = _mixed(content.sum(1) ^ seed)
    numbers = torch.arange(streams, device=tokens.device)[:, None, None] * 2**32 + places
    return _shifted(_mixed(keys[:, None] + numbers * _GOLDEN), 2)


def mask_tokens(
    tokens: Tensor,
    seed: int,
    share: float,
    mask_id: int,
    vocabulary: int,
    specials: Collection[int],
    padding_id: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose places, and hide their tokens (Devlin et al. 2019, section 3.1 and appendix A.1).

    Of a sample's n tokens, specials left out, max(1, round(share · n)) places are chosen, as in the authors' code: an
    equal share of each sample. A chosen place gets ``mask_id`` with probability 0.8, any token that is no special
    with probability 0.1, and keeps its own otherwise.

    Args:
        tokens: (batch, length), int64.
        seed: See :func:`random_numbers`.
        share: Of the tokens, in (0, 1].
        mask_id: The token number that stands for a hidden token.
        vocabulary: Number of different tokens, specials too.
        specials: Token numbers that are neither chosen nor put in a token's place, ``mask_id`` and ``padding_id``
            among them.
        padding_id: The token number of padding.

    Returns:
        Inputs with the chosen places changed, and a boolean mask of those places; both (batch, length).
    """
    order, choice, other = random_numbers(tokens, seed, 3, padding_id)
    count = places_to_guess(tokens, share, specials)
    chosen = order.masked_fill(~ordinary(tokens, specials), 2**62).argsort(1).argsort(1) < count[:, None]
    # 24 bits are what a float32 holds exactly.
    uniform = (choice & (2**24 - 1)).float() / 2**24
    replacement = other % (vocabulary - len(specials))
    for special in sorted(specials):
        replacement += replacement >= special
    hidden = torch.where(uniform < MASKED, mask_id, torch.where(uniform < MASKED + RANDOM, replacement, tokens))
    return torch.where(chosen, hidden, tokens), chosen


def ordinary(tokens: Tensor, specials: Collection[int]) -> Tensor:
    """Which tokens are no specials: boolean, (batch, length)."""
    mask = torch.ones_like(tokens, dtype=torch.bool)
    for special in specials:
        mask &= tokens != special
    return mask


def places_to_guess(tokens: Tensor, share: float, specials: Collection[int]) -> Tensor:
    """The number of places that are chosen of each sample: (batch,); arguments as for :func:`mask_tokens`."""
    count = ordinary(tokens, specials).sum(1)
    return (count * share).round().long().clamp(min=1).minimum(count)
