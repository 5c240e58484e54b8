"""The search for a likely target sequence, one token after another."""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from trainoff.modules.net_building import logits_of


class Decoder(Protocol):
    """What a search asks of a net."""

    def encode(self, source: Tensor) -> Any:
        """What decoding needs of the source (batch, length): a nest of tensors with the batch first."""

    def decode_step(self, tokens: Tensor, memory: Any, cache: Any = None) -> tuple[Tensor, Any]:
        """Logits (batch, output_size) of the token after ``tokens`` (batch,), and the next step's cache."""


class WithoutCache:
    """Decodes with any net of sources and target inputs, by running it on the whole target at each step.

    Args:
        net: net(source, target_inputs) gives logits (batch, target length, output_size).
    """

    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def encode(self, source: Tensor) -> Tensor:
        """The source itself."""
        return source

    def decode_step(self, tokens: Tensor, memory: Tensor, cache: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The cache is the target so far."""
        present = tokens[:, None] if cache is None else torch.cat([cache, tokens[:, None]], 1)
        return logits_of(self.net(memory, present))[:, -1], present


def decoder_of(net: nn.Module) -> Decoder:
    """The net itself where it decodes step by step; else a decoder without a cache."""
    if callable(getattr(net, "encode", None)) and callable(getattr(net, "decode_step", None)):
        return cast(Decoder, net)
    return WithoutCache(net)


@torch.no_grad()
def greedy_search(
    decoder: Decoder, source: Tensor, begin_id: int, end_id: int, padding_id: int, max_length: int
) -> Tensor:
    """The most likely token at each step, until all samples have ended.

    Args:
        decoder: Its net in evaluation mode.
        source: (batch, length).
        begin_id: The token before the first one.
        end_id: The last token of a sequence.
        padding_id: What comes after the end.
        max_length: The largest number of tokens, the end among them.

    Returns:
        (batch, at most max_length), without the beginning; a sequence that came to no end has none.
    """
    memory, cache = decoder.encode(source), None
    tokens = source.new_full((len(source),), begin_id)
    has_ended = torch.zeros_like(tokens, dtype=torch.bool)
    written: list[Tensor] = []
    while len(written) < max_length and not bool(has_ended.all()):
        logits, cache = decoder.decode_step(tokens, memory, cache)
        tokens = logits.argmax(1).masked_fill(has_ended, padding_id)
        written.append(tokens)
        has_ended = has_ended | (tokens == end_id)
    return torch.stack(written, 1)


@torch.no_grad()
def beam_search(
    decoder: Decoder,
    source: Tensor,
    begin_id: int,
    end_id: int,
    padding_id: int,
    max_length: int,
    beams: int,
    length_penalty: float = 0.6,
) -> tuple[Tensor, Tensor]:
    """The best of several sequences that are continued side by side.

    Sequences Y, ended or not, are compared by s(Y) = log P(Y) / ((5 + |Y|) / 6)^α (Wu et al. 2016, eq. 14, without
    their coverage), |Y| being the number of tokens with the end. Each step keeps the best ``beams`` of all
    continuations and all that have ended. One beam is :func:`greedy_search`; with as many beams as there are
    sequences the result is the best one of all.

    Args:
        decoder: As in :func:`greedy_search`, and so are the other arguments.
        source: (batch, length).
        begin_id: The token before the first one.
        end_id: The last token of a sequence.
        padding_id: What comes after the end.
        max_length: The largest number of tokens, the end among them.
        beams: How many sequences are kept of each sample, from 1.
        length_penalty: α; 0 compares by probability, which favours short sequences.

    Returns:
        The best sequences (batch, at most max_length), and their s(Y), (batch,).
    """
    samples = len(source)
    memory = _for_rows(decoder.encode(source), torch.arange(samples, device=source.device).repeat_interleave(beams))
    first_rows = torch.arange(samples, device=source.device)[:, None] * beams
    written = source.new_empty((samples, beams, 0))
    tokens = source.new_full((samples, beams), begin_id)
    has_ended = torch.zeros_like(tokens, dtype=torch.bool)
    lengths = torch.zeros_like(tokens)
    # One beam has probability 1, the others 0: at the start all are the same.
    likelihoods = torch.full((samples, beams), -torch.inf, device=source.device)
    likelihoods[:, 0] = 0
    scores, cache = likelihoods, None
    while written.shape[2] < max_length and not bool(has_ended.all()):
        logits, cache = decoder.decode_step(tokens.flatten(), memory, cache)
        steps = logits.float().log_softmax(1).view(samples, beams, -1)
        # What has ended has one continuation, padding, at no cost.
        steps = steps.masked_fill(has_ended[:, :, None], -torch.inf)
        steps[:, :, padding_id] = torch.where(has_ended, 0.0, steps[:, :, padding_id])
        candidates = likelihoods[:, :, None] + steps
        new_lengths = lengths + ~has_ended
        by_length = candidates / ((5 + new_lengths[:, :, None]) / 6) ** length_penalty
        scores, places = by_length.flatten(1).topk(beams, dim=1)
        parents, tokens = places // steps.shape[2], places % steps.shape[2]
        likelihoods = candidates.flatten(1).gather(1, places)
        lengths = new_lengths.gather(1, parents)
        has_ended = has_ended.gather(1, parents) | (tokens == end_id)
        written = torch.cat([written.gather(1, parents[:, :, None].expand_as(written)), tokens[:, :, None]], 2)
        cache = _for_rows(cache, (first_rows + parents).flatten())
    return written[:, 0], scores[:, 0]


def _for_rows(nest: Any, rows: Tensor) -> Any:
    """Each tensor of a nest with these rows of its batch."""
    return apply_to_collection(nest, Tensor, torch.index_select, 0, rows)
