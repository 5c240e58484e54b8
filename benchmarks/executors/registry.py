"""The executors by name; data only. Each class is imported, and with it what it needs, when it is used."""

from __future__ import annotations

from trainoff.registry import Entry, Registry

_HOME = "trainoff.benchmarks.executors"

EXECUTORS = Registry(
    "executor",
    [
        Entry("local", f"{_HOME}.local:LocalExecutor", "worker processes of this machine, from one fork server"),
        Entry(
            "ray",
            f"{_HOME}.ray:RayExecutor",
            "tasks of a Ray cluster; needs the extra `ray`",
            paper="Moritz et al. 2018, Ray: a distributed framework for emerging AI applications",
        ),
        Entry(
            "slurm",
            f"{_HOME}.slurm:SlurmExecutor",
            "SLURM job arrays through submitit; needs the extra `slurm`",
            paper="Yoo, Jette & Grondona 2003, SLURM: simple Linux utility for resource management",
        ),
    ],
    Entry,
    "",
)
