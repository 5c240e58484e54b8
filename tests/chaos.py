"""Faults, one after the other, at seeded moments; after each the run is gone on with, and compared.

``make chaos``, or ``python tests/chaos.py --seed 0 --minutes 10 --kills 60``. It ends at the time limit and says what
it had no time for. Of each fault it counts runs; records lost, doubled or different from the undisturbed run's;
finished trials that ran again; runs that hung; processes left behind; temporary files left. The status is 1 where any
but the first is not 0.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATHS = [str(ROOT), str(ROOT / "tests")]
sys.path[:0] = PATHS
os.environ["PYTHONPATH"] = os.pathsep.join([*PATHS, *filter(None, [os.environ.get("PYTHONPATH")])])

from faulty_modules import faults, faulty_suite  # noqa: E402
from folder_faults import forbidden, mounted  # noqa: E402
from running_suites import make_data, numbers_of  # noqa: E402

from tests.benchmarks.test_killed_runs import Running, kill_and_check, stamps, trials_of  # noqa: E402
from trainoff.benchmarks.store import RunFolder  # noqa: E402
from trainoff.benchmarks.suite_yaml import dump_yaml  # noqa: E402

SECONDS_TO_END = 240  # of a run that takes twenty on an idle machine; longer is a hang


@dataclass
class Row:
    """What one fault came to."""

    runs: int = 0
    lost: int = 0
    doubled: int = 0
    different: int = 0
    again: int = 0
    hung: int = 0
    orphans: int = 0
    temporary: int = 0
    note: str = ""

    @property
    def is_clean(self):
        return not (sum(asdict(self)[key] for key in WRONG))


WRONG = ("lost", "doubled", "different", "again", "hung", "orphans", "temporary")


class Chaos:
    """The faults, their folder and their undisturbed run.

    Args:
        folder: Of everything.
        seed: Of the moments.
        until: On the monotonic clock.
    """

    def __init__(self, folder, seed, until):
        self.folder = folder
        self.chance = random.Random(seed)
        self.seed = seed
        self.until = until
        self.suite = folder / "suite.yaml"
        self.suite.write_text(dump_yaml(trials_of(10)))
        self.expected = {}
        self.started = []
        self.seconds = 0.0  # of the undisturbed run

    def is_over(self):
        """Whether there is no time for another fault: none took more than four times the undisturbed run."""
        return time.monotonic() + 4 * self.seconds > self.until

    def start(self, folder, *arguments, suite=None):
        made = Running(self.folder / folder, suite or self.suite, ("--workers", "2", *arguments))
        self.started.append(made)
        return made

    def end(self, running, row):
        """Wait for its end; its status and what it printed to standard error."""
        try:
            _, errors = running.process.communicate(timeout=SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            row.hung += 1
            running.clean_up()
            return None, ""
        with contextlib.suppress(AssertionError):
            running.wait_for(lambda: not running.living())
        row.orphans += len(running.living())
        return running.process.returncode, errors

    def go_on(self, folder, row, before, *arguments):
        """Run what is missing, and compare."""
        status, errors = self.end(self.start(folder, *arguments), row)
        if status != 0:
            row.note = f"going on: status {status}: {errors.strip()[-200:]}"
            row.lost += 1
        self.compare(folder, row, before)

    def compare(self, folder, row, before, expected=None):
        expected = self.expected if expected is None else expected
        made, after = numbers_of(self.folder / folder), stamps(self.folder / folder)
        row.lost += len(expected.keys() - made.keys())
        row.doubled += len(made.keys() - expected.keys())
        row.different += sum(made[key] != expected[key] for key in made.keys() & expected.keys())
        row.again += sum(after.get(key) != stamp for key, stamp in before.items())
        row.temporary += sum(path.name.endswith(".tmp") for path in (self.folder / folder).rglob("*"))

    def wait_for_records(self, running, least):
        records = running.folder / "records"
        running.wait_for(lambda: len(list(records.glob("*.json"))) >= least or running.process.poll() is not None)

    # --- the faults -----------------------------------------------------------------------------------------------

    def undisturbed(self):
        row, start = Row(runs=1), time.monotonic()
        status, errors = self.end(self.start("undisturbed"), row)
        self.seconds = time.monotonic() - start
        assert status == 0, errors
        self.expected = numbers_of(self.folder / "undisturbed")
        return row

    def killed(self, kills, share):
        """`kill -9` of the run or of a worker, for a share of the time that is left."""

        def start(name):
            return self.start(name)

        until = time.monotonic() + share * (self.until - time.monotonic())
        count = kill_and_check(start, self.folder, kills, self.seed, until)
        row = Row(
            runs=count.kills + count.of_workers,
            lost=count.lost,
            doubled=count.doubled,
            different=count.different,
            again=count.run_again,
            hung=count.broken,
            orphans=count.left_behind,
            temporary=count.temporary,
            note=f"{count.kills} of the run, {count.of_workers} of a worker, {count.rounds} folders",
        )
        if row.runs < kills:
            row.note += f"; no time for {kills - row.runs} more"
        return row

    def signalled(self, name, *signals):
        """A signal or two at a random moment of the run."""
        row = Row(runs=1)
        running = self.start(name)
        self.wait_for_records(running, self.chance.randrange(1, 12))
        for number in signals:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.process.pid, number) if number == signal.SIGINT else running.process.send_signal(
                    number
                )
            time.sleep(self.chance.uniform(0, 0.3))
        status, errors = self.end(running, row)
        if "Traceback" in errors or status not in (0, 130, 143):
            row.note = f"status {status}: {errors.strip()[-200:]}"
            row.lost += 1
        self.go_on(name, row, stamps(running.folder))
        return row

    def full(self):
        """A disk with room for some records only."""
        row, folder = Row(runs=1), self.folder / "full"
        folder.mkdir()
        kibibytes = self.chance.randrange(40, 100)
        if not mounted(folder, f"size={kibibytes}k"):
            return Row(note="no tmpfs can be mounted here")
        try:
            status, errors = self.end(self.start("full"), row)
            row.note = f"{kibibytes} KiB"
            if status != 2 or "the disk is full" not in errors or len(errors.splitlines()) != 1:
                row.note, row.lost = f"status {status}: {errors.strip()[-200:]}", 1
            mounted(folder, "remount,size=8m")
            self.go_on("full", row, stamps(folder))
        finally:
            subprocess.run(["umount", str(folder)], check=False)
        return row

    def read_only(self):
        """The records' folder forbids writing in mid-run."""
        row = Row(runs=1)
        running = self.start("read-only")
        self.wait_for_records(running, self.chance.randrange(1, 8))
        records = running.folder / "records"
        if not forbidden(records, True):
            running.clean_up()
            return Row(note="no folder can be made read-only here")
        try:
            status, errors = self.end(running, row)
        finally:
            forbidden(records, False)
        if status != 2 or "Traceback" in errors:
            row.note, row.lost = f"status {status}: {errors.strip()[-200:]}", 1
        self.go_on("read-only", row, stamps(running.folder))
        return row

    def in_the_trial(self):
        """Trials that fail in every way, good ones among them; a second run finds all and runs nothing."""
        row, suite = Row(runs=1), self.folder / "faults.yaml"
        expected = faults()
        suite.write_text(dump_yaml(faulty_suite(expected)))
        status, errors = self.end(self.start("faults", suite=suite), row)
        found, problems = RunFolder(self.folder / "faults").read_all()
        by_task = {record.trial.task: record for record in found.values()}
        row.lost += len(expected.keys() - by_task.keys()) + len(problems) + (status != 0)
        raised = 0
        for task, record in by_task.items():
            raised += record.error is not None and "chaos in" in record.error.message
            if record.status not in expected[task]:
                row.different += 1
                row.note += f"{task}: {record.status}; "
        before = stamps(self.folder / "faults")
        self.end(self.start("faults", suite=suite), row)
        after = stamps(self.folder / "faults")
        row.again += sum(after.get(key) != stamp for key, stamp in before.items())
        row.doubled += len(after.keys() - before.keys())
        row.note += (
            f"{len(by_task)} trials, {raised} of them raised in a hook {errors.strip()[-200:] if status else ''}"
        )
        return row

    def rank(self):
        """`kill -9` of one of the two processes that train together; the trial is tried again."""
        row, suite = Row(runs=1), self.folder / "ranks.yaml"
        ddp = {"optimizer": {"name": "sgd", "lr": 0.1}, "batch": 64, "strategy": {"name": "ddp", "devices": 2}}
        suite.write_text(dump_yaml(make_data({"ddp": ddp}, seeds=3, epochs=10)))
        self.end(self.start("ranks-undisturbed", suite=suite), row)
        running = self.start("ranks", suite=suite)
        running.wait_for(lambda: ranks_of(running) or running.process.poll() is not None)
        time.sleep(self.chance.uniform(0, 1))
        killed = self.chance.choice(ranks_of(running) or [0])
        with contextlib.suppress(ProcessLookupError):
            os.kill(killed, signal.SIGKILL)
        self.end(running, row)
        before = stamps(running.folder)
        status, errors = self.end(self.start("ranks", suite=suite), row)
        row.lost += status != 0
        row.note = "" if status == 0 else errors.strip()[-200:]
        self.compare("ranks", row, before, numbers_of(self.folder / "ranks-undisturbed"))
        return row

    def ray_node(self):
        """A node of a Ray cluster dies in mid-run."""
        try:
            from ray.cluster_utils import Cluster
        except ImportError:
            return Row(note="ray is not installed")
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        row = Row(runs=1)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            node = cluster.add_node(num_cpus=1)
            cluster.wait_for_nodes()
            running = self.start("ray", "--executor", "ray", "--address", cluster.address)
            self.wait_for_records(running, self.chance.randrange(1, 10))
            before = stamps(running.folder)
            cluster.remove_node(node, allow_graceful=False)
            status, errors = self.end(running, row)
            if status != 0:
                row.note = f"status {status}: {errors.strip()[-200:]}"
            self.compare("ray", row, before)
        finally:
            cluster.shutdown()
        return row


def ranks_of(running):
    """Processes that train together with others, by the name that they have then."""
    found = []
    for process in running.living():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{process}/comm").read_text().startswith("rank-of-"):
                found.append(process)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--only", default="", help="faults whose names contain this")
    given = parser.parse_args()
    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="trainoff-chaos-"))
    chaos = Chaos(folder, given.seed, begun + 60 * given.minutes)
    cases = {
        "kill -9": lambda: chaos.killed(given.kills, 0.9 if given.only else 0.5),
        "failing trials": chaos.in_the_trial,
        "disk full": chaos.full,
        "read-only records": chaos.read_only,
        "SIGTERM": lambda: chaos.signalled("term", signal.SIGTERM),
        "Ctrl-C twice": lambda: chaos.signalled("interrupt", signal.SIGINT, signal.SIGINT),
        "rank killed": chaos.rank,
        "Ray node killed": chaos.ray_node,
    }
    print(f"seed {given.seed}, {given.minutes:g} minutes, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    print(f"{'fault':<18} {'runs':>5} " + " ".join(f"{key:>9}" for key in WRONG) + f" {'s':>6}  note", flush=True)
    is_clean = True
    try:
        for name, case in {"undisturbed": chaos.undisturbed, **cases}.items():
            if given.only not in name and name != "undisturbed":
                continue
            start = time.monotonic()
            row = Row(note="no time") if chaos.is_over() else case()
            is_clean &= row.is_clean
            counts = " ".join(f"{asdict(row)[key]:>9}" for key in WRONG)
            print(f"{name:<18} {row.runs:>5} {counts} {time.monotonic() - start:>6.0f}  {row.note}", flush=True)
    finally:
        for running in chaos.started:
            running.clean_up()
    print(f"{time.monotonic() - begun:.0f} s; {'clean' if is_clean else f'see {folder}'}")
    if is_clean:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
