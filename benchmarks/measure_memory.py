"""Peak memory of a training step as predicted by ``trainoff plan``, and as measured in a real training.

``python -m trainoff.benchmarks.measure_memory`` trains five nets by three optimizers on this machine's CPU, and a few
more recipes, each in a process of its own, and prints a table. Two measurements, neither of which knows of torch's
MemTracker:

- **allocated**: the most bytes that torch's CPU allocator had given out at one time, from the allocator's own reports
  to torch's profiler. It is what ``torch.cuda.max_memory_allocated`` counts on a GPU.
- **resident**: the peak of the process' resident memory (``VmHWM``) minus what was resident before the net was built,
  in the second training of the process: the first loads libraries.
"""

from __future__ import annotations

import dataclasses
import gc
import multiprocessing
import os
import platform
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import lightning as L
import torch

from trainoff.benchmarks.meters.memory import peak_bytes, reset_peak
from trainoff.benchmarks.planning.net_training import NetTraining, RandomData, parts_of
from trainoff.benchmarks.planning.tracked_step import track_step
from trainoff.benchmarks.quiet import quiet
from trainoff.modules.recipe import Recipe

STEPS = 3
NETS_MEASURED: dict[str, tuple[NetTraining, int]] = {
    "mlp 2048-2048, batch 256": (
        NetTraining({"name": "mlp", "hidden": [2048, 2048]}, "classifier", (3, 32, 32), 10),
        256,
    ),
    "resnet18, 64 x 64, batch 32": (NetTraining({"name": "resnet18"}, "classifier", (3, 64, 64), 100), 32),
    "vit_tiny, 64 x 64, batch 32": (
        NetTraining({"name": "vit_tiny", "patch": 8}, "classifier", (3, 64, 64), 100),
        32,
    ),
    "gpt2 4 x 256, 256 tokens, batch 8": (
        NetTraining({"name": "gpt2", "width": 256, "depth": 4, "heads": 4}, "language_model", (256,), 8192),
        8,
    ),
    "transformer 2 x 256, 64 tokens, batch 32": (
        NetTraining({"name": "transformer", "width": 256, "depth": 2, "heads": 4}, "seq2seq", (64,), 8192),
        32,
    ),
}
OPTIMIZERS: dict[str, Any] = {
    "sgd, momentum": {"optimizer": {"name": "sgd", "momentum": 0.9, "lr": 1e-3}},
    "adamw": {"optimizer": {"name": "adamw", "lr": 1e-4}},
    "lamb": {"optimizer": {"name": "lamb", "lr": 1e-3}},
}
FURTHER: dict[str, Any] = {
    "muon": {"optimizer": {"name": "muon", "lr": 1e-3}},
    "adamw, ema": {**OPTIMIZERS["adamw"], "regularizers": ["ema"]},
    "adamw, sam": {**OPTIMIZERS["adamw"], "regularizers": ["sam"]},
    "adamw, 4 micro-batches": {**OPTIMIZERS["adamw"], "microbatches": 4},
    "adamw, bf16-mixed": {**OPTIMIZERS["adamw"], "precision": "bf16-mixed"},
}
FURTHER_NET = "vit_tiny, 64 x 64, batch 32"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One net trained by one recipe.

    Args:
        net: Of :data:`NETS_MEASURED`.
        recipe: Of :data:`OPTIMIZERS` or :data:`FURTHER`.
    """

    net: str
    recipe: str

    @property
    def training(self) -> NetTraining:
        """The net with its sizes."""
        return NETS_MEASURED[self.net][0]

    def make_recipe(self) -> Recipe:
        """The recipe."""
        return Recipe.of({**OPTIMIZERS, **FURTHER}[self.recipe])

    def samples(self) -> list[int]:
        """Of each micro-batch."""
        return parts_of(NETS_MEASURED[self.net][1], self.make_recipe().microbatches)

    def predict(self) -> int:
        """Peak bytes, by fake tensors."""
        recipe, training = self.make_recipe(), self.training
        batches = [training.batch(samples) for samples in self.samples()]
        return track_step(lambda: training.build(recipe), recipe, batches, training.facts).peak

    def train(self) -> None:
        """A few steps of a real training, on random numbers."""
        recipe = self.make_recipe()
        L.Trainer(
            max_steps=STEPS,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **recipe.trainer_arguments(),
        ).fit(self.training.build(recipe), datamodule=RandomData(self.training, self.samples(), STEPS))

    def measure_allocated(self) -> int:
        """The most bytes that the allocator had given out."""
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
            self.train()
        assert profiler.profiler is not None
        events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
        present = most = 0
        for event in sorted(events, key=lambda event: event.start_ns()):
            present += event.nbytes()
            most = max(most, present)
        return most

    def measure_resident(self) -> int:
        """The growth of resident memory."""
        device = torch.device("cpu")
        self.train()  # loads libraries and compiles kernels, which stay
        gc.collect()
        reset_peak(device)
        before = peak_bytes(device) or 0
        self.train()
        return (peak_bytes(device) or 0) - before


def measure(cell: Cell) -> tuple[int, int]:
    """Resident and allocated bytes of one cell, in this process."""
    torch.set_num_threads(1)
    with quiet():
        return cell.measure_resident(), cell.measure_allocated()


def measure_in_process(cell: Cell) -> tuple[int, int]:
    """The same in a process of its own."""
    # Memory that is given back at once, so that what is resident is what is in use: read when a process starts.
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trainoff.benchmarks.planning.tracked_step"])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measure, cell).result(timeout=600)


def main() -> None:
    """Print the table."""
    cells = [Cell(net, recipe) for net in NETS_MEASURED for recipe in OPTIMIZERS]
    cells += [Cell(FURTHER_NET, recipe) for recipe in FURTHER]
    print(f"torch {torch.__version__}, {_processor()}, one thread; MiB; share: predicted / measured")
    print()
    print("| net | recipe | predicted | allocated | share | resident | share |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for cell in cells:
        resident, allocated = measure_in_process(cell)
        predicted = cell.predict()
        shares = "".join(f" {size / 2**20:.1f} | {predicted / size:.3f} |" for size in (allocated, resident))
        print(f"| {cell.net} | {cell.recipe} | {predicted / 2**20:.1f} |{shares}", flush=True)


def _processor() -> str:
    """The processor's name, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()} x {os.cpu_count()}"


if __name__ == "__main__":
    main()
