"""What is asked of every net, whatever it takes."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from trainoff.benchmarks.conformance.findings import Misbehaviour

_SIZES = {"input_shape", "output_size"}


class NetSubject(Protocol):
    """A net to be asked about."""

    @property
    def factory(self) -> Callable[..., Any]:
        """The net's class."""
        ...

    def new(self, seed: int = 0, output_size: int = 10) -> nn.Module:
        """The net with the sizes of its data, its weights by a seed."""
        ...

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What the net is called with: a batch."""
        ...


def takes_sizes(subject: NetSubject) -> str:
    """Its arguments are those by which a task fits it to its data."""
    parameters = inspect.signature(subject.factory).parameters
    missing = _SIZES - set(parameters)
    if missing:
        raise Misbehaviour(f"takes no {' and no '.join(sorted(missing))}, so a task cannot fit it to its data")
    return "input_shape and output_size"


@torch.no_grad()
def evaluates_alike(subject: NetSubject) -> str:
    """In eval mode: the same outputs twice, and for a sample by itself as among others."""
    net, inputs = subject.new().eval(), subject.inputs
    outputs = net(*inputs)
    if not torch.equal(outputs, net(*inputs)):
        raise Misbehaviour("in eval mode it gives two outputs for one input")
    alone = torch.cat([net(*(part[i : i + 1] for part in inputs)) for i in range(len(outputs))])
    if not torch.allclose(outputs, alone, rtol=1e-3, atol=1e-4):
        raise Misbehaviour("in eval mode a sample's output depends on the others of its batch")
    return "in eval mode the same outputs twice, and whatever the batch"


@torch.no_grad()
def state_loads(subject: NetSubject) -> str:
    """The state is all in the state dict, and loads without unpickling code."""
    net, other, inputs = subject.new().eval(), subject.new(seed=1).eval(), subject.inputs
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    if not torch.equal(net(*inputs), other(*inputs)):
        raise Misbehaviour("a net with the state of another gives other outputs: something is not in the state dict")
    return f"{len(net.state_dict())} tensors, and the same outputs once loaded with weights_only=True"


@torch.no_grad()
def copies(subject: NetSubject) -> str:
    """It can be copied, and sent to another process."""
    net, inputs = subject.new().eval(), subject.inputs
    for how, copied in (("deepcopy", copy.deepcopy(net)), ("a pickle", pickle.loads(pickle.dumps(net)))):
        if not torch.equal(net(*inputs), copied.eval()(*inputs)):
            raise Misbehaviour(f"the net out of {how} gives other outputs")
    return "the same outputs out of a pickle and out of deepcopy"
