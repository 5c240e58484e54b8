"""What a SLURM job is asked for, from what the user wrote."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from trainoff.benchmarks.executors.resources import Resources
from trainoff.errors import UserError

_MINUTES_TO_START = 10  # Python, torch and the data, from a busy network file system
_BYTES_TO_START = 2**30  # of the job's own Python and the fork server, beside the trial


def minutes_of(given: object, time_limit: float | None, each: int) -> int:
    """How long a job may take.

    Args:
        given: Minutes, or ``minutes:seconds``, ``hours:minutes:seconds``, ``days-hours`` and so on, as sbatch takes
            them; None for what the time limit makes.
        time_limit: Seconds of one payload.
        each: Payloads of a job.

    Raises:
        UserError: Where it is no time, or nothing says how long.
    """
    if given is None:
        if time_limit is None:
            raise UserError("say how long a job may take: time=60 (minutes), or the suite's time_limit", "--slurm")
        return math.ceil(time_limit * each / 60) + _MINUTES_TO_START
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", str(given))
    if match is None:
        raise UserError(f"{given!r} is no time; write 90 (minutes), 1:30:00 or 1-12:00:00", "--slurm time")
    days, *parts = match.groups()
    numbers = [int(part) for part in parts if part is not None]
    if days is not None:  # days-hours[:minutes[:seconds]]
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    else:
        hours, minutes, seconds = 0, *(*numbers, 0)[:2]
    total = math.ceil(((int(days or 0) * 24 + hours) * 60 + minutes) + seconds / 60)
    if not total:
        raise UserError("a job of no time", "--slurm time")
    return total


def whole(given: object, name: str) -> int:
    """A whole number from 1, also as text.

    Raises:
        UserError: For anything else.
    """
    if isinstance(given, bool) or not re.fullmatch(r"[1-9]\d*", str(given)):
        raise UserError(f"{given!r} is not a whole number from 1", f"--slurm {name}")
    return int(str(given))


def job_parameters(resources: Resources, minutes: int, options: Mapping[str, Any], most: int) -> dict[str, Any]:
    """What submitit is told.

    Args:
        resources: Of a job.
        minutes: Of a job.
        options: Options of sbatch, with ``-`` or ``_``; ``true`` for those without a value.
        most: Tasks of an array that run at a time.
    """
    from submitit.slurm.slurm import SlurmExecutor

    known = SlurmExecutor._valid_parameters()
    told: dict[str, Any] = {
        "name": "trainoff",
        "timeout_min": minutes,
        "cpus_per_task": resources.cpus,
        "slurm_array_parallelism": most,
        "slurm_wckey": "trainoff",
    }
    if resources.gpus:
        told["gpus_per_node"] = resources.gpus
    if resources.memory_limit is not None:
        told["mem_gb"] = math.ceil((resources.memory_limit + _BYTES_TO_START) / 2**30)
    others = {}
    for key, value in options.items():
        value = True if str(value).lower() == "true" else value
        name = key.replace("-", "_")
        if name in known:
            told[f"slurm_{name}"] = value
        else:
            others[key.replace("_", "-")] = value
    return {**told, "slurm_additional_parameters": others} if others else told
