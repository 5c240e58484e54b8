"""The lowest versions that pyproject.toml allows: a fresh virtualenv of them runs the core of the tests."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints-lowest.txt"

# What a machine without a network, or with another Python, cannot do; anything else is a failure of ours.
UNAVAILABLE = re.compile(
    r"No matching distribution found|Could not find a version|ConnectionError|Max retries|Temporary failure|"
    r"Failed building wheel|No space left|Read timed out"
)
CORE = [
    "tests/modules/test_recipe.py",
    "tests/modules/test_applying.py",
    "tests/modules/test_checkpoints.py",
    "tests/modules/test_regularizers.py",
    "tests/modules/test_schedules.py",
    "tests/modules/test_microbatches.py",
    "tests/datamodules/test_lightning.py",
    "tests/benchmarks/suites",
    "tests/benchmarks/test_tuning.py",
    "tests/benchmarks/test_runner.py",
]


def requirements():
    """What trainoff itself requires, extras left out."""
    return [line for line in importlib.metadata.requires("trainoff") if "extra ==" not in line]


def pins():
    lines = [line.partition("#")[0].strip() for line in CONSTRAINTS.read_text().splitlines()]
    return dict(line.split("==") for line in lines if "==" in line)


def test_each_requirement_has_a_lowest_version_that_is_allowed():
    from packaging.requirements import Requirement

    wanted = [Requirement(line) for line in requirements()]
    pinned = {name.lower().replace("-", "_"): version for name, version in pins().items()}
    assert {requirement.name.lower().replace("-", "_") for requirement in wanted} == pinned.keys()
    for requirement in wanted:
        version = pinned[requirement.name.lower().replace("-", "_")]
        assert requirement.specifier.contains(version), f"{requirement} does not allow {version}"


@pytest.mark.slow
def test_the_core_works_under_the_lowest_versions(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    home = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True, timeout=120)
    python = str(home / "bin" / "python")
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint"]
    command += [str(CONSTRAINTS), *requirements(), "pytest>=8", "hypothesis>=6.100"]
    try:
        installed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("the lowest versions cannot be installed within 400 seconds here")
    if installed.returncode != 0:
        said = " ".join(line for line in installed.stderr.splitlines() if line.startswith("ERROR"))
        if "ResolutionImpossible" not in said and (found := UNAVAILABLE.search(installed.stderr)):
            pytest.skip(f"the lowest versions cannot be installed here: {found[0]}: {said[-300:]}")
        pytest.fail(f"the lowest versions do not go together: {said[-1500:]}")
    tests = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", *CORE],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    print(tests.stdout[-2000:])
    assert tests.returncode == 0, tests.stdout[-6000:]
    assert re.search(r"[1-9]\d+ passed", tests.stdout)
