"""The search for a likely sequence, against all sequences that there are."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainoff.modules.decoding import WithoutCache, beam_search, decoder_of, greedy_search
from trainoff.modules.nets import Seq2SeqLSTM, Transformer

PADDING, BEGIN, END = 0, 1, 2
VOCABULARY, LONGEST = 5, 3
NETS = {
    "transformer": (Transformer, {"width": 8, "depth": 2, "heads": 2}),
    "lstm": (Seq2SeqLSTM, {"width": 6, "depth": 2}),
    "luong": (Seq2SeqLSTM, {"width": 6, "depth": 1, "attention": "luong"}),
    "bahdanau": (Seq2SeqLSTM, {"width": 6, "depth": 2, "attention": "bahdanau"}),
}


def net_of(name="transformer", seed=0, vocabulary=VOCABULARY, sharpness=3.0):
    torch.manual_seed(seed)
    factory, arguments = NETS[name]
    net = factory((4,), vocabulary, padding_id=PADDING, **arguments).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn_like(parameter) * sharpness / max(parameter.shape[-1], 1) ** 0.5)
    return net


def sources_of(samples=5, vocabulary=VOCABULARY, seed=1):
    draw = torch.Generator().manual_seed(seed)
    sources = torch.randint(3, vocabulary, (samples, 4), generator=draw)
    return sources.masked_fill(torch.arange(4) >= torch.randint(1, 5, (samples, 1), generator=draw), PADDING)


def log_probability(net, source, sequence):
    """Of one whole sequence, from the net's parallel forward."""
    inputs = torch.tensor([[BEGIN, *sequence[:-1]]])
    steps = net(source[None], inputs).log_softmax(-1)[0]
    return sum(float(steps[place, token]) for place, token in enumerate(sequence))


def all_sequences(longest=LONGEST, vocabulary=VOCABULARY):
    """Those that end, and those of full length that do not."""
    others = [token for token in range(vocabulary) if token != END]
    for length in range(1, longest + 1):
        for body in itertools.product(others, repeat=length - 1):
            yield (*body, END)
    yield from itertools.product(others, repeat=longest)


def stripped(row):
    """A row up to its end; padding comes after an end only."""
    row = list(row)
    return tuple(row[: row.index(END) + 1]) if END in row else tuple(row)


@torch.no_grad()
@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.5])
@pytest.mark.parametrize("name", NETS)
def test_with_enough_beams_it_finds_the_best_of_all_sequences(name, penalty):
    net, sources = net_of(name), sources_of()
    found, scores = beam_search(net, sources, BEGIN, END, PADDING, LONGEST, beams=150, length_penalty=penalty)
    for source, row, score in zip(sources, found.tolist(), scores.tolist(), strict=True):
        rated = {s: log_probability(net, source, s) / ((5 + len(s)) / 6) ** penalty for s in all_sequences()}
        best = max(rated, key=rated.get)
        assert stripped(row) == best
        assert score == pytest.approx(rated[best], rel=1e-5)


@pytest.mark.parametrize("name", NETS)
@given(seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_one_beam_is_greedy(name, seed):
    net, sources = net_of(name, seed), sources_of(seed=seed)
    greedy = greedy_search(net, sources, BEGIN, END, PADDING, 7)
    assert torch.equal(greedy, beam_search(net, sources, BEGIN, END, PADDING, 7, beams=1)[0])


@torch.no_grad()
def test_greedy_takes_the_most_likely_token_at_each_step():
    net, sources = net_of("luong", 3, 6, sharpness=1.0), sources_of(20, 6)
    found = greedy_search(net, sources, BEGIN, END, PADDING, 6)
    ends = 0
    for source, row in zip(sources, found.tolist(), strict=True):
        written = [BEGIN]
        while len(written) <= 6 and written[-1] != END:
            written.append(int(net(source[None], torch.tensor([written]))[0, -1].argmax()))
        assert stripped(row) == tuple(written[1:])
        assert set(row[len(written) - 1 :]) <= {PADDING}
        ends += written[-1] == END
    assert 0 < ends < 20


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", NETS)
def test_batched_is_one_by_one(name, beams):
    net, sources = net_of(name, 5, 9), sources_of(8, 9)
    together, scores = beam_search(net, sources, BEGIN, END, PADDING, 6, beams)
    for number, source in enumerate(sources):
        alone, score = beam_search(net, source[None], BEGIN, END, PADDING, 6, beams)
        assert stripped(alone[0].tolist()) == stripped(together[number].tolist())
        assert float(score) == pytest.approx(float(scores[number]), rel=1e-5)


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("name", NETS)
def test_with_cache_is_without(name, beams):
    net, sources = net_of(name, 6, 9), sources_of(8, 9)
    assert decoder_of(net) is net
    cached, scores = beam_search(net, sources, BEGIN, END, PADDING, 6, beams)
    plain, others = beam_search(WithoutCache(net), sources, BEGIN, END, PADDING, 6, beams)
    assert torch.equal(cached, plain)
    torch.testing.assert_close(scores, others)


def test_more_beams_find_sequences_at_least_as_likely_on_average():
    net, sources = net_of("bahdanau", 2, 12, sharpness=2.0), sources_of(40, 12)
    means = [
        float(beam_search(net, sources, BEGIN, END, PADDING, 5, beams, length_penalty=0.0)[1].mean())
        for beams in (1, 2, 8, 64)
    ]
    assert means == sorted(means)
    assert means[-1] > means[0]


def test_it_stops_when_all_have_ended():
    class Ends(torch.nn.Module):
        steps = 0

        def encode(self, source):
            return source

        def decode_step(self, tokens, memory, cache=None):
            self.steps += 1
            logits = torch.zeros(len(tokens), VOCABULARY)
            logits[:, END] = 5.0 if self.steps >= 3 else -5.0
            return logits, memory

    for search in (greedy_search, lambda *arguments: beam_search(*arguments, beams=2)[0]):
        decoder = Ends()
        written = search(decoder, sources_of(), BEGIN, END, PADDING, 50)
        assert decoder.steps <= 4
        assert written.shape[1] == decoder.steps


def test_the_penalty_is_wus():
    """((5 + |Y|) / 6)^α with |Y| the tokens with the end: one token is not changed at all."""
    net = net_of()
    for penalty in (0.0, 1.0):
        found, scores = beam_search(net, sources_of(1), BEGIN, END, PADDING, 1, 5, penalty)
        logits, _ = net.decode_step(torch.tensor([BEGIN]), net.encode(sources_of(1)))
        assert float(scores) == pytest.approx(logits.log_softmax(1).max().item(), rel=1e-5)
        assert int(found) == int(logits.argmax())
    assert math.isclose(((5 + 7) / 6) ** 0.6, 2**0.6)
