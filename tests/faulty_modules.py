"""A LightningModule that does what `make chaos` asks for: raises in a hook, hangs, crashes, eats memory."""

from __future__ import annotations

import os
import signal
import time

import torch
from lightning.pytorch.core.hooks import CheckpointHooks, DataHooks, ModelHooks
from running_suites import make_data
from users_project import UsersModule

STEPS = ("forward", "training_step", "validation_step", "test_step", "configure_optimizers", "optimizer_step")
STEPS += ("optimizer_zero_grad", "configure_gradient_clipping", "backward", "configure_callbacks")
HOOKS = sorted(
    {name for hooks in (ModelHooks, DataHooks, CheckpointHooks) for name in vars(hooks) if not name.startswith("_")}
    | set(STEPS)
)


class Faulty(UsersModule):
    """Fails in a hook, or at a step of training.

    Args:
        hook: Raises there.
        how: What happens at the step.
        step: Of the first epoch, from 0.
    """

    def __init__(self, hook="", how="", step=2):
        super().__init__()
        self.how = how
        self.step = step
        if hook:
            setattr(self, hook, self._raise_in(hook))

    @staticmethod
    def _raise_in(hook):
        def fail(*_, **__):
            raise RuntimeError(f"chaos in {hook}")

        return fail

    def training_step(self, batch, batch_idx):
        if self.how and batch_idx == self.step:
            self.fail()
        return super().training_step(batch, batch_idx)

    def fail(self):
        if self.how == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.how == "hang":
            time.sleep(3600)
        if self.how == "memory":
            held = []
            while True:  # a gigabyte in five seconds
                held.append(torch.ones(5_000_000))
                time.sleep(0.1)
        if self.how == "nan":
            with torch.no_grad():
                next(self.parameters()).fill_(float("nan"))


def faults():
    """Tasks by name, with the statuses that they may end in."""
    expected = {f"hook-{hook}": ("crashed", "ok") for hook in HOOKS}
    ways = {"segfault": "crashed", "hang": "timed_out", "memory": "out_of_memory", "nan": "diverged"}
    return {**expected, **{f"how-{way}": (status,) for way, status in ways.items()}, "good": ("ok",)}


def faulty_suite(expected):
    suite = make_data({"sgd": {"optimizer": {"name": "sgd", "lr": 0.1}, "batch": 16}})
    task = {"data": "running_suites.UsersData", "metric": "acc", "budget": {"epochs": 2}}
    suite["tasks"] = {}
    for name in expected:
        kind, _, value = name.partition("-")
        arguments = {kind: value} if value else {}
        module = {"class_path": "faulty_modules.Faulty", "init_args": arguments}
        suite["tasks"][name] = {**task, "module": module}
    return {**suite, "time_limit": 20, "memory_limit": "1500MB"}
