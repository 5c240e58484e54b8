"""A stand-in for SLURM: `sbatch`, `srun`, `squeue`, `sacct` and `scancel` that run an array's tasks as processes here.

``install(folder)`` writes the commands into a folder, to be put first on PATH; all call this file. The state of each
task is a file in ``$SLURM_STAND_IN``. A file ``fail-next`` there with a state, such as ``NODE_FAIL``, kills a
running task and says that it ended in it. At most two tasks run at a time.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = ("sbatch", "srun", "squeue", "sacct", "scancel")


def install(folder):
    """Write the commands; the variables of the environment that they need."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state").mkdir()
    for name in COMMANDS:
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(__file__)} {name} "$@"\n')
        path.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "SLURM_STAND_IN": str(folder / "state")}


def state_of(folder, task):
    """One task's state, as its file says."""
    return json.loads((folder / f"{task}.json").read_text())


def write(path, content):
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(content))
    os.replace(temporary, path)


def sbatch(state, script):
    """Queue a job; a process in a session of its own runs its tasks."""
    text = Path(script).read_text()
    number = 1 + max([int(path.stem.split("_")[0]) for path in state.glob("*.json")], default=100)
    array = re.search(r"--array=(\d+)-(\d+)(?:%(\d+))?", text)
    tasks = range(int(array[1]), int(array[2]) + 1) if array else [None]
    for task in tasks:
        write(state / f"{number}{'' if task is None else f'_{task}'}.json", {"state": "PENDING"})
    copy = state / f"{number}.sh"
    copy.write_text(text)
    with open(os.devnull, "r+b") as null:
        subprocess.Popen(
            [sys.executable, __file__, "run-array", str(number)],
            start_new_session=True,
            stdin=null,
            stdout=null,
            stderr=null,
        )
    print(f"Submitted batch job {number}")


def run_array(state, number):
    waiting = sorted(state.glob(f"{number}.json")) + sorted(
        state.glob(f"{number}_*.json"), key=lambda p: (len(p.name), p)
    )
    running = []
    while waiting or running:
        while waiting and len(running) < 2:
            path = waiting.pop(0)
            if state_of(state, path.stem)["state"] == "PENDING":
                running.append((path, start(state, number, path)))
        for path, process in list(running):
            status = process.poll()
            failing = state / "fail-next"
            if status is None and failing.exists():
                verdict = failing.read_text().strip()
                failing.unlink()
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                write(path, {"state": verdict})
                running.remove((path, process))
            elif status is not None:
                if state_of(state, path.stem)["state"] == "RUNNING":
                    write(path, {"state": "COMPLETED" if status == 0 else "FAILED"})
                running.remove((path, process))
        time.sleep(0.05)


def start(state, number, path):
    _, _, task = path.stem.partition("_")
    text = (state / f"{number}.sh").read_text()
    output = re.search(r"--output=(\S+)", text)[1].replace("%A", number).replace("%a", task).replace("%j", number)
    variables = {"SLURM_JOB_ID": path.stem, "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1", "SLURM_NODEID": "0"}
    variables |= {"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    if task:
        variables |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": task, "SLURM_JOB_ID": f"{number}{task:0>4}"}
    with open(output, "ab") as log:
        process = subprocess.Popen(
            ["bash", str(state / f"{number}.sh")],
            env={**os.environ, **variables},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    write(path, {"state": "RUNNING", "group": process.pid})
    return process


def srun(_, *arguments):
    command = list(arguments)
    while command and command[0].startswith("-"):
        option = command.pop(0)
        if option in ("--output", "--error"):
            command.pop(0)
    os.execvp(command[0], command)


def sacct(state, *_):
    tasks = [f"{path.stem}|{state_of(state, path.stem)['state']}|here" for path in sorted(state.glob("*.json"))]
    print("\n".join(["JobID|State|NodeList", *tasks]))


def squeue(state, *_):
    for path in sorted(state.glob("*.json")):
        known = state_of(state, path.stem)["state"]
        if known in ("PENDING", "RUNNING"):
            print(path.stem, known)


def scancel(state, *ids):
    for given in ids:
        for path in [*state.glob(f"{given}.json"), *state.glob(f"{given}_*.json")]:
            known = state_of(state, path.stem)
            if known["state"] in ("PENDING", "RUNNING"):
                write(path, {"state": "CANCELLED by 0"})
                if "group" in known:
                    os.killpg(known["group"], signal.SIGKILL)


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    run = {"run-array": run_array, "sbatch": sbatch, "srun": srun, "sacct": sacct, "squeue": squeue}
    ({**run, "scancel": scancel})[name](Path(os.environ["SLURM_STAND_IN"]), *arguments)
