"""Checks of a net."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainoff.benchmarks.conformance.findings import Check, Finding, Misbehaviour, find_target, one_line, run_checks
from trainoff.benchmarks.conformance.net_checks import copies, evaluates_alike, state_loads, takes_sizes
from trainoff.benchmarks.conformance.token_nets import TOKEN_NET_CHECKS, TokenNetSubject, series_of_tokens
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
from trainoff.modules.gan_net import GANNet
from trainoff.modules.net_building import build_net
from trainoff.modules.nets import NETS
from trainoff.modules.recipe import Recipe

_RATES = (3e-3, 3e-4, 3e-2)  # of adamw, tried in this order
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

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What the net is called with."""
        return (self.samples[0],)


def findings(target: str) -> list[Finding]:
    """Check a net, by name or class path; see :func:`trainoff.benchmarks.conformance.check`."""
    choice, factory = find_target(NETS, target)
    if "name" in choice:
        # the full size may take hours here
        choice = {**choice, **NETS[target].tiny}
    if (series := series_of_tokens(choice)) is not None:
        return run_checks(TOKEN_NET_CHECKS, TokenNetSubject(choice, factory, series))
    checks: list[Check[_Subject]] = [
        Check("takes sizes", takes_sizes),
        Check("builds", _builds, needs=("takes sizes",)),
        Check("output shape", _gives_the_right_shape, needs=("builds",)),
        Check("gradients", _uses_every_parameter, needs=("output shape",)),
        Check("evaluation", evaluates_alike, needs=("output shape",)),
        Check("state dict", state_loads, needs=("builds", "evaluation")),
        Check("pickles", copies, needs=("builds", "evaluation")),
        dataclasses.replace(TRAINS, needs=("output shape",)),
        IS_DETERMINISTIC,
        RESUMES,
        SURVIVES_BF16,
    ]
    recipes = [Recipe({"name": "adamw", "lr": rate}) for rate in _RATES]
    return run_checks(checks, _Subject(choice, recipes, choice, factory=factory))


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
