"""Time of a training step in trainoff, as a ratio to a hand-written torch loop on the same batches.

``python -m trainoff.benchmarks.measure_steps`` (or ``make bench``) trains two nets three ways in turn, A B C A B C …,
in one process with one thread, and prints medians and ratios: a hand-written loop, a plain Lightning Trainer on a
plain LightningModule, and a trial in trainoff's ``trainer`` engine, meters included.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainoff.benchmarks.engines.trainer import Surroundings, train
from trainoff.benchmarks.quiet import quiet
from trainoff.benchmarks.trial import Budget, Task, Trial
from trainoff.datamodules import Digits
from trainoff.modules import Recipe
from trainoff.modules.nets import NETS
from trainoff.registry import arguments_of

NETS_MEASURED: dict[str, dict[str, Any]] = {
    "digits MLP 128-128, batch 64": {"name": "mlp", "hidden": [128, 128]},
    "small CNN (resnet20, width 4), batch 64": {"name": "resnet20", "width": 4},
}
EPOCHS = 4
BATCH = 64
LEARNING_RATE = 1e-3


@dataclasses.dataclass(frozen=True)
class Case:
    """One net, trained three ways."""

    net: dict[str, Any]

    def build(self) -> nn.Module:
        """The net for digits."""
        torch.manual_seed(0)
        made: nn.Module = NETS.load(self.net)(input_shape=(1, 8, 8), output_size=10, **arguments_of(self.net))
        return made

    def by_hand(self) -> float:
        """Seconds a step of a loop as in torch's tutorials."""
        data, net = _data(), self.build()
        optimizer = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, fused=True)
        steps, seconds = 0, 0.0
        for epoch in range(EPOCHS):
            batches = data.train_dataloader()
            batches.set_epoch(epoch)
            start = time.perf_counter()
            for inputs, targets in batches:
                optimizer.zero_grad()
                F.cross_entropy(net(inputs), targets).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                steps += 1
            seconds += time.perf_counter() - start
        return seconds / steps

    def by_lightning(self) -> float:
        """Seconds a step of a Trainer with everything optional off."""
        clock = _Clock()
        trainer = L.Trainer(
            max_epochs=EPOCHS,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[clock],
        )
        trainer.fit(_Plain(self.build()), train_dataloaders=_data().train_dataloader())
        return clock.seconds / trainer.global_step

    def by_trainoff(self) -> float:
        """Seconds a step of a trial, as its record says."""
        module = {"name": "classifier", "net": self.net}
        task = Task("digits", module, {"name": "digits"}, "accuracy", "max", Budget(epochs=EPOCHS))
        recipe = Recipe({"name": "adamw", "lr": LEARNING_RATE}, batch=BATCH)
        trial = Trial("bench", task, "adamw", recipe.to_dict(), {}, "final", 0, "", {})
        cost = train(trial, Surroundings()).cost
        assert cost.train_seconds is not None
        return cost.train_seconds / cost.steps


class _Clock(L.Callback):
    """Seconds between the first batch and the end of each epoch."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._start = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seconds += time.perf_counter() - self._start


class _Plain(L.LightningModule):
    """The least that Lightning trains."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        inputs, targets = batch
        return F.cross_entropy(self.net(inputs), targets)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=LEARNING_RATE, fused=True)


def _data() -> Digits:
    data = Digits(batch_size=BATCH)
    data.setup()
    return data


def measure(ways: list[Callable[[], float]], rounds: int) -> list[list[float]]:
    """Each way's figures, the ways taken in turn; a round before the counted ones warms up."""
    figures: list[list[float]] = [[] for _ in ways]
    for number in range(rounds + 1):
        for way, row in zip(ways, figures, strict=True):
            with quiet():
                value = way()
            if number:
                row.append(value)
    return figures


def main(rounds: int = 9) -> None:
    """Print medians in microseconds and the median of the ratios round by round."""
    torch.set_num_threads(1)
    for label, net in NETS_MEASURED.items():
        case = Case(net)
        ways = {"by hand": case.by_hand, "plain Lightning": case.by_lightning, "trainoff trial": case.by_trainoff}
        figures = measure(list(ways.values()), rounds)
        print(f"{label}; medians of {rounds} rounds, one thread")
        for name, row in zip(ways, figures, strict=True):
            ratio = statistics.median(value / base for value, base in zip(row, figures[0], strict=True))
            print(f"  {name:<16} {1e6 * statistics.median(row):8.0f} µs a step   {ratio:.2f} × by hand")


if __name__ == "__main__":
    main(*[int(argument) for argument in sys.argv[1:2]])
