"""Checks of a net that takes token numbers: one series of them, or a source and a target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainoff.benchmarks.conformance.findings import Check, Misbehaviour, NotOffered
from trainoff.benchmarks.conformance.net_checks import copies, evaluates_alike, state_loads, takes_sizes
from trainoff.benchmarks.quiet import quiet
from trainoff.benchmarks.randomness import seed_everything
from trainoff.modules.net_building import build_net
from trainoff.modules.nets import NETS

_BATCH, _LENGTH, _VOCABULARY = 6, 12, 10
_DOMAINS = {"tokens": 1, "token pairs": 2}


@dataclass
class TokenNetSubject:
    """A net of token numbers.

    Args:
        choice: The net.
        factory: Its class.
        series: How many series of token numbers it is called with.
    """

    choice: dict[str, Any]
    factory: Callable[..., Any]
    series: int

    def new(self, seed: int = 0, output_size: int = _VOCABULARY) -> nn.Module:
        """The net for series of twelve tokens of so many different ones, its weights by a seed."""
        seed_everything(seed)
        return build_net(self.choice, (_LENGTH,), output_size)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Token numbers, (batch, length) each."""
        return _tokens(self.series, _VOCABULARY)


def series_of_tokens(choice: dict[str, Any]) -> int | None:
    """How many series of token numbers a net is called with: its entry says it, or a trial; None for other nets."""
    if "name" in choice:
        return _DOMAINS.get(NETS[choice["name"]].domain)
    for series in (1, 2):
        tokens = _tokens(series, _VOCABULARY)
        try:
            with torch.no_grad(), quiet():
                outputs = build_net(choice, (_LENGTH,), _VOCABULARY).eval()(*tokens)
        except Exception:  # the user's code, which may take anything
            continue
        if isinstance(outputs, Tensor) and outputs.shape[:2] == tokens[-1].shape and outputs.ndim == 3:
            return series
    return None


def _tokens(series: int, vocabulary: int) -> tuple[Tensor, ...]:
    draw = torch.Generator().manual_seed(0)
    # of different lengths: a net may not take the one for the other
    lengths = (_LENGTH, _LENGTH - 3)[:series]
    return tuple(torch.randint(vocabulary, (_BATCH, length), generator=draw) for length in lengths)


def _builds(subject: TokenNetSubject) -> str:
    net = subject.new()
    if not isinstance(net, nn.Module):
        raise Misbehaviour(f"{type(net).__name__} is not a torch.nn.Module")
    count = sum(parameter.numel() for parameter in net.parameters())
    what = "token numbers" if subject.series == 1 else "token numbers of source and target"
    return f"{type(net).__name__} for {what}, {count:,} parameters"


@torch.no_grad()
def _gives_the_right_shape(subject: TokenNetSubject) -> str:
    for vocabulary, samples in ((_VOCABULARY, _BATCH), (7, _BATCH), (_VOCABULARY, 1)):
        inputs = tuple(part[:samples] for part in _tokens(subject.series, vocabulary))
        outputs = subject.new(output_size=vocabulary).eval()(*inputs)
        if not isinstance(outputs, Tensor):
            raise Misbehaviour(f"returns {type(outputs).__name__}, not one tensor")
        if outputs.shape != (*inputs[-1].shape, vocabulary):
            raise Misbehaviour(
                f"for {tuple(inputs[-1].shape)} tokens and an output_size of {vocabulary} it returns "
                f"{tuple(outputs.shape)}"
            )
    return "(batch, length, output_size), for one sample too"


def _uses_every_parameter(subject: TokenNetSubject) -> str:
    net, inputs = subject.new().train(), subject.inputs
    cross_entropy(net(*inputs).flatten(0, 1), inputs[-1].flatten()).backward()
    trainable = [(name, parameter) for name, parameter in net.named_parameters() if parameter.requires_grad]
    unused = [name for name, parameter in trainable if parameter.grad is None]
    if unused:
        raise Misbehaviour(f"no gradient reaches {', '.join(unused)}; several devices would wait for it")
    return f"every one of {len(trainable)} parameter tensors gets one"


@torch.no_grad()
def _does_not_see_the_future(subject: TokenNetSubject) -> str:
    """Of nets that decode step by step, which is right only where no output depends on what comes after it."""
    net = subject.new().eval()
    if not hasattr(net, "decode_step"):
        raise NotOffered("has no decode_step, so its outputs may depend on all tokens")
    *source, tokens = subject.inputs
    outputs = net(*source, tokens)
    for place in range(1, tokens.shape[1]):
        others = tokens.clone()
        others[:, place:] = (others[:, place:] + 1) % _VOCABULARY
        changed = net(*source, others)
        if not torch.allclose(outputs[:, :place], changed[:, :place], rtol=1e-4, atol=1e-5):
            raise Misbehaviour(f"its outputs before place {place} change with the tokens from there on")
        if torch.equal(outputs[:, place], changed[:, place]):
            raise Misbehaviour(f"its output at place {place} does not change with the token there")
    return "an output depends on the tokens up to its own place"


TOKEN_NET_CHECKS: list[Check[TokenNetSubject]] = [
    Check("takes sizes", takes_sizes),
    Check("builds", _builds, needs=("takes sizes",)),
    Check("output shape", _gives_the_right_shape, needs=("builds",)),
    Check("gradients", _uses_every_parameter, needs=("output shape",)),
    Check("evaluation", evaluates_alike, needs=("output shape",)),
    Check("causality", _does_not_see_the_future, needs=("evaluation",)),
    Check("state dict", state_loads, needs=("builds", "evaluation")),
    Check("pickles", copies, needs=("builds", "evaluation")),
]
