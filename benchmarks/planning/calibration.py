"""How long a training takes, from a few seconds of work on the device at hand."""

from __future__ import annotations

import dataclasses
import statistics
import time

import lightning as L
import torch

from trainoff.benchmarks.meters.time import TimeMeter
from trainoff.benchmarks.planning.net_training import NetTraining, RandomData, parts_of
from trainoff.benchmarks.planning.strategy_plan import trackable
from trainoff.benchmarks.planning.tracked_step import StepMemory
from trainoff.benchmarks.quiet import quiet
from trainoff.modules.recipe import Recipe

_STEPS = 6  # of which the first three warm up
_SIDE = 1024  # of the matrices
_SECONDS = 0.5
_LONGEST_STEP = 1.5


@dataclasses.dataclass(frozen=True)
class StepTime:
    """Seconds of an optimizer step on this machine, on one device.

    Args:
        seconds: Of a step; the least it takes where it was not trained.
        how: In words.
    """

    seconds: float
    how: str


def time_step(training: NetTraining, recipe: Recipe, samples: int, memory: StepMemory) -> StepTime:
    """Train a few real steps where that is quick and fits, else divide by what a matrix product reaches.

    Args:
        training: What.
        recipe: How; its strategy is left out.
        samples: In a step.
        memory: As planned on one device.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rate = matrix_rate(device, torch.bfloat16 if "bf16" in str(recipe.precision) else torch.float32)
    least = memory.flops_per_sample * samples / rate
    place = describe_device(device)
    if least > _LONGEST_STEP or memory.peak > _free_bytes(device) / 2:
        how = f"at the {rate_text(rate)} of a product of matrices on {place}; a step takes at least that"
        return StepTime(least, how)
    seconds = _trained(training, trackable(recipe), samples)
    return StepTime(seconds, f"median of {_STEPS - 3} trained on {place}")


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a product of two square matrices, each multiplication and each addition counted."""
    factor = torch.ones(_SIDE, _SIDE, device=device, dtype=dtype)
    factor @ factor
    products, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < _SECONDS:
        factor @ factor
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        products += 1
    return 2 * _SIDE**3 * products / (time.perf_counter() - begin)


def _trained(training: NetTraining, recipe: Recipe, samples: int) -> float:
    clock = TimeMeter()
    with quiet():
        L.Trainer(
            max_steps=_STEPS,
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[clock],
            **recipe.trainer_arguments(),
        ).fit(training.build(recipe), datamodule=RandomData(training, parts_of(samples, recipe.microbatches), _STEPS))
    return statistics.median(clock.step_seconds) if clock.step_seconds else clock.elapsed() / _STEPS


def describe_device(device: torch.device) -> str:
    """In words: the GPU's name, or the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"this CPU ({threads} thread{'s' if threads > 1 else ''})"


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo") as file:
            facts = dict(line.split(":", 1) for line in file)
        return int(facts["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):  # not Linux
        return 2**31


def rate_text(rate: float) -> str:
    """``1.5 TFLOP/s``."""
    return f"{rate / 1e12:.1f} TFLOP/s" if rate >= 1e12 else f"{rate / 1e9:.0f} GFLOP/s"
