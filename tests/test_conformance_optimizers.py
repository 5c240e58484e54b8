"""Each deliberately broken optimizer fails exactly the checks that it should."""

from __future__ import annotations

import os

import pytest
import torch
from failed_checks import failed

from trainoff.benchmarks.conformance import check


class Descent(torch.optim.Optimizer):
    """Momentum, right in every way; the broken ones change one thing each."""

    def __init__(self, params, lr=0.05):
        super().__init__(params, {"lr": lr})

    def step(self, closure=None):
        loss = None if closure is None else closure()
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self.move(parameter, self.momentum(parameter), group["lr"])
        return loss

    def memory(self, parameter):
        return self.state[parameter]

    def momentum(self, parameter):
        memory = self.memory(parameter)
        memory["sum"] = memory["sum"] * 0.9 + parameter.grad if "sum" in memory else parameter.grad.clone()
        return memory["sum"]

    def move(self, parameter, direction, lr):
        parameter.sub_(lr * direction)


class Forgetful(Descent):
    """Keeps its memory where no checkpoint finds it."""

    def memory(self, parameter):
        return self.__dict__.setdefault("memories", {}).setdefault(id(parameter), {})


class Uphill(Descent):
    def move(self, parameter, direction, lr):
        parameter.add_(lr * direction)


class Restless(Descent):
    def move(self, parameter, direction, lr):
        noise = int.from_bytes(os.urandom(4), "big") / 2**32
        parameter.sub_(lr * direction * (1 + 1e-3 * noise))


class OneRate(Descent):
    """Reads the learning rate where groups and schedules do not write it."""

    def move(self, parameter, direction, lr):
        parameter.sub_(self.defaults["lr"] * direction)


class NoClosure(Descent):
    def step(self, closure=None):
        return super().step(None)


class Locked(Descent):
    """Its state holds what cannot be pickled."""

    def memory(self, parameter):
        memory = self.state[parameter]
        memory["rule"] = lambda: None
        return memory


class Demanding(Descent):
    def __init__(self, params, temperature, lr=0.05):
        super().__init__(params, lr)


def test_a_plain_optimizer_behaves():
    assert failed("optimizer", Descent) == set()


@pytest.mark.parametrize(
    ("broken", "checks"),
    [
        (Forgetful, {"resumes"}),
        (Uphill, {"trains"}),
        (NoClosure, {"trains"}),
        (Restless, {"deterministic"}),
        (OneRate, {"parameter groups"}),
        (Locked, {"resumes", "pickles"}),
        (Demanding, {"builds"}),
        ("torch.nn.Linear", {"builds"}),
        ("math.pi", {"builds"}),
        ("builtins.dict", {"builds"}),
    ],
)
def test_a_broken_optimizer_fails_its_check(broken, checks):
    assert failed("optimizer", broken) == checks


@pytest.mark.parametrize(("target", "name"), [("torch.nn.Linear", "Linear"), ("math.pi", "3.14")])
def test_what_is_no_optimizer_is_told_so(target, name):
    (finding,) = check("optimizer", target)
    assert finding.detail.startswith(name)
    assert "is not a torch.optim.Optimizer; derive it from that class" in finding.detail


def test_an_optimizer_that_repeats_its_closure_gets_all_samples_at_a_step():
    """Five epochs, so five steps; a group of its own is not offered, and no failure."""
    findings = {finding.name: finding for finding in check("optimizer", "lbfgs")}
    assert findings["trains"].detail.endswith("in 5 steps")
    assert not findings["parameter groups"].offered
    assert "one group" in findings["parameter groups"].detail


def test_what_rests_on_a_failed_check_is_named_there():
    (restless,) = [f for f in check("optimizer", f"{__name__}.Restless") if not f.ok]
    assert restless.detail.endswith("(so not checked: resumes)")
    findings = check("optimizer", f"{__name__}.Demanding")
    assert [finding.name for finding in findings] == ["builds"]
    assert "needs 'temperature'" in findings[0].detail
