"""What is imported when, and what the parts in daily use do without. No test here looks at a clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from running_suites import execute, make_data

HEAVY = ("torch", "lightning", "torchmetrics", "pytorch_optimizer", "sklearn", "datasets", "wandb", "pandas", "ray")
HEAVY += ("scipy.stats", "matplotlib", "mnist1d", "jsonargparse", "submitit", "pebble")

REPORT = """
import json, sys
{code}
print()
print(json.dumps([name for name in {heavy!r} if name in sys.modules]))
"""

COMMANDS = {
    "help": ["--help"],
    "help of run": ["run", "--help"],
    "help of plan": ["plan", "--help"],
    "list": ["list"],
    "list optimizers": ["list", "optimizers"],
    "list in JSON": ["list", "--json"],
    "show a suite": ["show", "smoke"],
    "show a suite in JSON": ["show", "smoke", "--json"],
    "an unknown command": ["rum"],
    "an unknown name": ["show", "adamv"],
}


def loaded_after(code, folder, **variables):
    """Which of the heavy packages a fresh interpreter has imported after the code."""
    done = subprocess.run(
        [sys.executable, "-c", REPORT.format(code=code, heavy=HEAVY)],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def call(*arguments):
    return f"""
from trainoff.command_line import main
try:
    main({list(arguments)!r})
except SystemExit:
    pass
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("budget") / "run"
    execute(make_data({"sgd": {"optimizer": "sgd"}, "adamw": {"optimizer": "adamw"}}, seeds=2), folder)
    return folder


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_what_is_data_imports_nothing_heavy(arguments, tmp_path):
    assert loaded_after(call(*arguments), tmp_path) == []


@pytest.mark.parametrize(
    "package", ["trainoff", "trainoff.catalogue", "trainoff.leaderboards", "trainoff.modules.recipe"]
)
def test_packages_import_nothing_heavy(package, tmp_path):
    assert loaded_after(f"import {package}", tmp_path) == []


@pytest.mark.parametrize("format", ["terminal", "markdown", "html", "csv", "json", "latex"])
def test_a_board_is_read_without_anything_heavy(format, tmp_path, finished):
    assert loaded_after(call("board", str(finished), "--format", format), tmp_path) == []


def test_two_recipes_are_compared_without_anything_heavy(tmp_path, finished):
    assert loaded_after(call("compare", str(finished), "sgd", "adamw"), tmp_path) == []


# --- without what is optional -----------------------------------------------------------------------------------

BLOCKED = ("datasets", "wandb", "ray", "deepspeed", "submitit")
SITE = f"""
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refusing())
"""


@pytest.fixture
def without(tmp_path):
    """Run code in an interpreter that has none of the blocked packages, nor have its workers."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    paths = [str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_block_blocks(without):
    for name in BLOCKED:
        assert "refused" in without("-c", f"try: import {name}\nexcept ModuleNotFoundError: print('refused')")


def test_a_classifier_trains_on_digits_without_what_is_optional(without):
    code = """
import lightning as L
from trainoff.datamodules import Digits
from trainoff.modules import Classifier, Recipe

recipe = Recipe(optimizer={"name": "adamw", "lr": 3e-3}, schedule="cosine", regularizers=["l2", "dropout"])
quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
trainer = L.Trainer(max_epochs=1, accelerator="cpu", devices=1, **quiet)
trainer.fit(Classifier("mlp", recipe=recipe), Digits())
print("accuracy", float(trainer.callback_metrics["val/accuracy"]))
"""
    assert float(without("-c", code).split()[-1]) > 0.3


def test_the_smoke_suite_runs_without_what_is_optional(without, tmp_path):
    assert "6 trials run" in without("-m", "trainoff", "run", "smoke", "--out", "run", "--workers", "2")
    records = [json.loads(path.read_text()) for path in (tmp_path / "run" / "records").glob("*.json")]
    assert [record["status"] for record in records] == ["ok"] * 6
