"""Checks of a net."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainoff.benchmarks.conformance.findings import Check, Finding, Misbehaviour, find_target, one_line, run_checks
from trainoff.benchmarks.conformance.training_checks import (
    IS_DETERMINISTIC,
    RESUMES,
    SURVIVES_BF16,
    TRAINS,
    TrainingSubject,
)
from trainoff.benchmarks.randomness import seed_everything
from trainoff.datamodules.facts.entry import DataModuleEntry
from trainoff.datamodules.facts.image_sets import DIGITS
from trainoff.datamodules.scikit_learn import Digits
from trainoff.datamodules.splits import RawData
from trainoff.errors import UserError
from trainoff.modules.gan_net import GANNet
from trainoff.modules.net_building import build_net
from trainoff.modules.nets import NETS
from trainoff.modules.recipe import Recipe

_RATES = (3e-3, 3e-4, 3e-2)  # of adamw, tried in this order
_SIZES = {"input_shape", "output_size"}
_BATCH = 16


class _LargeDigits(Digits):
    """Digits of 32 x 32, for nets that halve the image several times."""

    facts: ClassVar[DataModuleEntry] = dataclasses.replace(DIGITS, input_shape=(1, 32, 32))

    def raw_data(self) -> RawData:
        """Each pixel repeated four times each way."""
        images, labels = super().raw_data()[:2]
        return RawData(np.kron(images, np.ones((1, 1, 4, 4), images.dtype)), labels)


class _ColourDigits(_LargeDigits):
    """The same in three equal channels."""

    facts: ClassVar[DataModuleEntry] = dataclasses.replace(DIGITS, input_shape=(3, 32, 32))

    def raw_data(self) -> RawData:
        """The grey channel three times."""
        images, labels = super().raw_data()[:2]
        return RawData(np.repeat(images, 3, axis=1), labels)


class _FlatDigits(Digits):
    """Digits as vectors."""

    facts: ClassVar[DataModuleEntry] = dataclasses.replace(DIGITS, input_shape=(64,))

    def raw_data(self) -> RawData:
        """The pixels in a row."""
        images, labels = super().raw_data()[:2]
        return RawData(images.reshape(len(images), -1), labels)


@dataclass
class _Subject(TrainingSubject):
    factory: Callable[..., Any] = nn.Module

    def new(self, seed: int = 0, output_size: int = 10) -> nn.Module:
        """The net with the sizes of the data, its weights by a seed."""
        seed_everything(seed)
        return build_net(self.choice, self.data().input_shape, output_size)

    @functools.cached_property
    def samples(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets of one batch."""
        inputs, targets = self.data().split("train")
        return inputs[:_BATCH], targets[:_BATCH]


def findings(target: str) -> list[Finding]:
    """Check a net, by name or class path; see :func:`trainoff.benchmarks.conformance.check`."""
    choice, factory = find_target(NETS, target)
    if "name" in choice:
        if NETS[target].domain in ("tokens", "token pairs"):
            raise UserError("takes token numbers; the checks know images and vectors of numbers", target)
        # the full size may take hours here
        choice = {**choice, **NETS[target].tiny}
    checks = [
        Check("takes sizes", _takes_sizes),
        Check("builds", _builds, needs=("takes sizes",)),
        Check("output shape", _gives_the_right_shape, needs=("builds",)),
        Check("gradients", _uses_every_parameter, needs=("output shape",)),
        Check("evaluation", _evaluates_alike, needs=("output shape",)),
        Check("state dict", _state_loads, needs=("builds", "evaluation")),
        Check("pickles", _copies, needs=("builds", "evaluation")),
        dataclasses.replace(TRAINS, needs=("output shape",)),
        IS_DETERMINISTIC,
        RESUMES,
        SURVIVES_BF16,
    ]
    recipes = [Recipe({"name": "adamw", "lr": rate}) for rate in _RATES]
    return run_checks(checks, _Subject(choice, recipes, choice, factory=factory))


def _takes_sizes(subject: _Subject) -> str:
    parameters = inspect.signature(subject.factory).parameters
    missing = _SIZES - set(parameters)
    if missing:
        raise Misbehaviour(f"takes no {' and no '.join(sorted(missing))}, so a task cannot fit it to its data")
    return "input_shape and output_size"


def _builds(subject: _Subject) -> str:
    """On the first of several shapes of digits that it takes."""
    problems = []
    for data in (Digits, _LargeDigits, _ColourDigits, _FlatDigits):
        subject.data = data
        vars(subject).pop("samples", None)
        try:
            net = subject.new()
            if not isinstance(net, nn.Module):
                raise Misbehaviour(f"{type(net).__name__} is not a torch.nn.Module")
            net.eval()(subject.samples[0])
        except Exception as error:  # it may take images only, or large ones only
            problems.append(f"{data.facts.input_shape}: {one_line(error)}")
            continue
        count = sum(parameter.numel() for parameter in net.parameters())
        return f"{type(net).__name__} for inputs of {data.facts.input_shape}, {count:,} parameters"
    raise Misbehaviour("; ".join(dict.fromkeys(problems)))


@torch.no_grad()
def _gives_the_right_shape(subject: _Subject) -> str:
    for output_size, samples in ((10, _BATCH), (7, _BATCH), (10, 1)):
        outputs = subject.new(output_size=output_size).eval()(subject.samples[0][:samples])
        if not isinstance(outputs, Tensor):
            raise Misbehaviour(f"returns {type(outputs).__name__}, not one tensor")
        if outputs.shape != (samples, output_size):
            raise Misbehaviour(
                f"for {samples} samples and an output_size of {output_size} it returns {tuple(outputs.shape)}"
            )
    return "(batch, output_size), for one sample too"


def _uses_every_parameter(subject: _Subject) -> str:
    net = subject.new().train()
    inputs, targets = subject.samples
    if hasattr(net, "generator") and hasattr(net, "latent"):  # a GAN's, whose discriminator is to see its own images
        inputs = cast(GANNet, net).generator(torch.randn(len(inputs), cast(GANNet, net).latent))
    cross_entropy(net(inputs), targets).backward()
    trainable = [(name, parameter) for name, parameter in net.named_parameters() if parameter.requires_grad]
    unused = [name for name, parameter in trainable if parameter.grad is None]
    if unused:
        raise Misbehaviour(f"no gradient reaches {', '.join(unused)}; several devices would wait for it")
    return f"every one of {len(trainable)} parameter tensors gets one"


@torch.no_grad()
def _evaluates_alike(subject: _Subject) -> str:
    """In eval mode: the same outputs twice, and for a sample by itself as among others."""
    net, inputs = subject.new().eval(), subject.samples[0]
    outputs = net(inputs)
    if not torch.equal(outputs, net(inputs)):
        raise Misbehaviour("in eval mode it gives two outputs for one input")
    alone = torch.cat([net(inputs[i : i + 1]) for i in range(len(inputs))])
    if not torch.allclose(outputs, alone, rtol=1e-3, atol=1e-4):
        raise Misbehaviour("in eval mode a sample's output depends on the others of its batch")
    return "in eval mode the same outputs twice, and whatever the batch"


@torch.no_grad()
def _state_loads(subject: _Subject) -> str:
    net, other, inputs = subject.new().eval(), subject.new(seed=1).eval(), subject.samples[0]
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    if not torch.equal(net(inputs), other(inputs)):
        raise Misbehaviour("a net with the state of another gives other outputs: something is not in the state dict")
    return f"{len(net.state_dict())} tensors, and the same outputs once loaded with weights_only=True"


@torch.no_grad()
def _copies(subject: _Subject) -> str:
    net, inputs = subject.new().eval(), subject.samples[0]
    for how, copied in (("deepcopy", copy.deepcopy(net)), ("a pickle", pickle.loads(pickle.dumps(net)))):
        if not torch.equal(net(inputs), copied.eval()(inputs)):
            raise Misbehaviour(f"the net out of {how} gives other outputs")
    return "the same outputs out of a pickle and out of deepcopy"
