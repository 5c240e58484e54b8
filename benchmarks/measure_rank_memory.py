"""Peak memory of each of two processes that share a net, as predicted by ``trainoff plan`` and as measured.

``python -m trainoff.benchmarks.measure_rank_memory`` trains a GPT-2 on two processes of this machine's CPU (gloo), its
parameters sharded by FSDP2, then its layers split, and prints a table. *Resident* is the growth of a process' resident
memory over the second training in it, as in :mod:`trainoff.benchmarks.measure_memory`; of the two the larger is shown.
"""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
from collections.abc import Sequence

import lightning as L
import torch

from trainoff.benchmarks.measure_memory import OPTIMIZERS
from trainoff.benchmarks.meters.memory import peak_bytes, reset_peak
from trainoff.benchmarks.planning.net_training import NetTraining, RandomData
from trainoff.benchmarks.planning.strategy_plan import Training, mesh_of_row
from trainoff.benchmarks.quiet import quiet
from trainoff.modules.recipe import Recipe

STEPS, RANKS, BATCH = 3, 2, 8
ROWS = ("fsdp", "tensor")
_MARK = "peak bytes:"
GPT2 = NetTraining(
    {"name": "gpt2", "width": 256, "depth": 4, "heads": 4, "dropout": 0.0}, "language_model", (256,), 8192
)


def samples_of(row: str) -> int:
    """On each rank: its part of the batch, or, where layers are split, all of it."""
    return BATCH // mesh_of_row(row, RANKS)[0]


def predict(row: str, optimizer: str) -> int:
    """Peak bytes of a rank, by fake tensors."""
    training = Training(
        GPT2.build, Recipe.of(OPTIMIZERS[optimizer]), lambda samples: [GPT2.batch(samples)], GPT2.facts, "cpu"
    )
    return training.track_sharded(samples_of(row), *mesh_of_row(row, RANKS)).peak


def measure(row: str, optimizer: str) -> int:
    """Peak bytes of the larger rank, from real processes."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        # Memory that is given back at once, so that what is resident is what is in use.
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "MALLOC_TRIM_THRESHOLD_": "65536",
    }
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={RANKS}"]
    command = [*launch, "-m", "trainoff.benchmarks.measure_rank_memory", row, optimizer]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    peaks = [int(peak) for peak in re.findall(rf"{_MARK} (\d+)", done.stdout)]
    if len(peaks) != RANKS:
        raise RuntimeError(f"{len(peaks)} of {RANKS} ranks said how much they took: {done.stdout!r} {done.stderr!r}")
    return max(peaks)


def measure_rank(row: str, optimizer: str) -> None:
    """Train twice as one of the ranks, and print the second training's peak."""
    data, tensor = mesh_of_row(row, RANKS)
    strategy = {"name": "model_parallel", "devices": RANKS, "data_parallel_size": data, "tensor_parallel_size": tensor}
    recipe = Recipe.of({**OPTIMIZERS[optimizer], "strategy": strategy})
    device = torch.device("cpu")
    with quiet():
        _train(recipe, samples_of(row))
        gc.collect()
        reset_peak(device)
        before = peak_bytes(device) or 0
        _train(recipe, samples_of(row))
    # In one write: both ranks print to one pipe.
    os.write(1, f"{_MARK} {(peak_bytes(device) or 0) - before}\n".encode())


def _train(recipe: Recipe, samples: int) -> None:
    L.Trainer(
        max_steps=STEPS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **recipe.trainer_arguments(),
    ).fit(GPT2.build(recipe), datamodule=RandomData(GPT2, [samples], STEPS))


def main(arguments: Sequence[str]) -> None:
    """Print the table; with a row and an optimizer, be one of the ranks."""
    if arguments:
        row, optimizer = arguments
        measure_rank(row, optimizer)
        return
    print(f"gpt2 4 x 256, 256 tokens, batch {BATCH} on {RANKS} processes; torch {torch.__version__}; MiB on each")
    print()
    print("| strategy | recipe | predicted | resident | share |")
    print("|---|---|---:|---:|---:|")
    for row in ROWS:
        for optimizer in ("sgd, momentum", "adamw"):
            predicted, measured = predict(row, optimizer), measure(row, optimizer)
            sizes = f"{predicted / 2**20:.1f} | {measured / 2**20:.1f}"
            print(f"| {row} | {optimizer} | {sizes} | {predicted / measured:.3f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
