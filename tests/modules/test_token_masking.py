"""Which tokens are hidden: counts exactly, shares statistically, and what the choice depends on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trainoff.modules.token_masking import mask_tokens, random_numbers

PADDING, MASK, BEGIN = 0, 1, 2
SPECIALS = {PADDING, MASK, BEGIN}
VOCABULARY = 50


def tokens_of(samples, length, seed=0, padded=True):
    draw = torch.Generator().manual_seed(seed)
    tokens = torch.randint(3, VOCABULARY, (samples, length), generator=draw)
    tokens[:, 0] = BEGIN
    if padded:
        ends = torch.randint(1, length + 1, (samples, 1), generator=draw)
        tokens = tokens.masked_fill(torch.arange(length) >= ends, PADDING)
    return tokens


def hide(tokens, seed=3, share=0.15):
    return mask_tokens(tokens, seed, share, MASK, VOCABULARY, SPECIALS, PADDING)


@given(length=st.integers(1, 40), seed=st.integers(0, 2**63 - 1), share=st.sampled_from([0.15, 0.3, 0.5, 1.0]))
def test_of_each_sample_as_many_places_as_the_paper_says(length, seed, share):
    tokens = tokens_of(20, length, seed % 1000)
    inputs, chosen = hide(tokens, seed, share)
    for row in range(len(tokens)):
        ordinary = [token for token in tokens[row].tolist() if token not in SPECIALS]
        expected = min(len(ordinary), max(1, int(np.float32(share) * np.float32(len(ordinary)) + 0.5)))
        halfway = (share * len(ordinary)) % 1 == 0.5  # rounded to the even number
        assert abs(int(chosen[row].sum()) - expected) <= halfway
    assert not (chosen & ((tokens == PADDING) | (tokens == BEGIN))).any()
    assert torch.equal(inputs[~chosen], tokens[~chosen])
    assert not torch.isin(inputs[chosen], torch.tensor([PADDING, BEGIN])).any()


def test_eight_tenths_are_masked_one_tenth_random_one_tenth_kept():
    tokens = tokens_of(4000, 60, padded=False)
    inputs, chosen = hide(tokens)
    seen, true = inputs[chosen], tokens[chosen]
    count = len(seen)
    assert count == 4000 * 9  # of 59 tokens 8.85
    # a random token is the true one once in 47 times
    kept = 0.1 + 0.1 / 47
    observed = [int((seen == MASK).sum()), int((seen == true).sum())]
    observed.append(count - sum(observed))
    assert stats.chisquare(observed, [0.8 * count, kept * count, (0.2 - kept) * count]).pvalue > 1e-3


def test_places_and_random_tokens_are_uniform():
    tokens = tokens_of(6000, 41, padded=False)
    inputs, chosen = hide(tokens)
    assert stats.chisquare(chosen[:, 1:].sum(0)).pvalue > 1e-3
    other = inputs[chosen & (inputs != MASK) & (inputs != tokens)]
    assert stats.chisquare(np.bincount(other, minlength=VOCABULARY)[3:]).pvalue > 1e-3


def test_neighbouring_seeds_choose_independently():
    """Of 40 places 6 each: two independent choices share 0.9 on average."""
    tokens = tokens_of(6000, 41, padded=False)
    one, other = hide(tokens, 7)[1], hide(tokens, 8)[1]
    shared = (one & other).sum(1).double()
    assert abs(shared.mean() - 0.9) < 4 * shared.std() / 6000**0.5


def test_places_of_a_sample_are_independent_of_one_another():
    tokens = tokens_of(20_000, 41, padded=False)
    numbers = random_numbers(tokens, 5, 2)[:, :, :3].double() / 2**62
    flat = numbers.permute(1, 0, 2).flatten(1)
    assert stats.kstest(flat.flatten().numpy(), "uniform").pvalue > 1e-3
    correlations = np.corrcoef(flat.numpy().T) - np.eye(6)
    assert np.abs(correlations).max() < 4.5 / 20_000**0.5


def test_a_sample_is_hidden_alike_wherever_it_stands():
    """In another batch, in another order, further padded."""
    tokens = tokens_of(12, 10)
    inputs, chosen = hide(tokens)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    parts = [hide(part) for part in tokens[order].split([5, 4, 3])]
    assert torch.equal(torch.cat([part[0] for part in parts]), inputs[order])
    longer = torch.nn.functional.pad(tokens, (0, 6), value=PADDING)
    assert torch.equal(hide(longer)[0][:, :10], inputs)
    assert torch.equal(hide(longer)[1][:, :10], chosen)


def test_global_random_numbers_are_neither_read_nor_drawn():
    tokens = tokens_of(4, 9)
    torch.manual_seed(1)
    first, state = hide(tokens), torch.get_rng_state()
    torch.manual_seed(2)
    second = hide(tokens)
    assert torch.equal(first[0], second[0])
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())


def test_splitmix_is_steeles():
    """The first numbers of the published generator with the seed 1234567."""
    from trainoff.modules.token_masking import _GOLDEN, _mixed

    states = torch.tensor(1234567) + torch.arange(1, 4) * _GOLDEN
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423 - 2**64]
    assert _mixed(states).tolist() == expected


@pytest.mark.parametrize("length", [1, 2])
def test_padding_alone_has_nothing_to_guess(length):
    inputs, chosen = hide(torch.full((2, length), PADDING))
    assert not chosen.any()
    assert (inputs == PADDING).all()
