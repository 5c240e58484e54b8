"""The example package, installed as anybody's would be, is found by its entry points and behaves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = {
    "optimizers": "example_sign_momentum",
    "regularizers": "example_gradient_noise",
    "nets": "example_gated_mlp",
    "datamodules": "example_rings",
    "suites": "example-suite",
}


def install(source: Path, target: Path) -> None:
    """Install without network; from a copy, so that the build leaves nothing in the repository."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    subprocess.run(
        [*pip, "--no-build-isolation", "--target", str(target), str(source)],
        check=True,
        timeout=120,
        capture_output=True,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder that holds the installed example."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(ROOT / "examples" / "plugin", folder / "source")
    install(folder / "source", folder / "site")
    return folder / "site"


def trainoff(site, *arguments, cwd):
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-m", "trainoff", *arguments],
        cwd=cwd,
        env=environment,
        timeout=180,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_its_names_are_listed_with_their_package(site, tmp_path):
    rows = json.loads(trainoff(site, "list", "--json", cwd=tmp_path).stdout)
    found = {row["kind"]: row["name"] for row in rows if row["package"] == "trainoff-example-plugin"}
    assert found == PARTS
    line = next(
        line
        for line in trainoff(site, "list", "optimizers", cwd=tmp_path).stdout.splitlines()
        if line.startswith("example_sign_momentum")
    )
    assert line.endswith("[trainoff-example-plugin]")


def test_listing_imports_nothing_of_it(site, tmp_path):
    program = (
        "import sys; from trainoff.modules.optimizers import OPTIMIZERS; "
        "assert 'example_sign_momentum' in OPTIMIZERS; "
        "assert not any(name.startswith(('trainoff_example', 'torch')) for name in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True, timeout=60)


def test_its_optimizer_is_shown(site, tmp_path):
    shown = trainoff(site, "show", "example_sign_momentum", cwd=tmp_path).stdout
    assert "package: trainoff-example-plugin" in shown
    assert "class: trainoff_example.parts.SignMomentum" in shown
    assert "lr: 0.003" in shown


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("optimizer", "example_sign_momentum"),
        pytest.param("regularizer", "example_gradient_noise", marks=pytest.mark.slow),
        pytest.param("datamodule", "example_rings", marks=pytest.mark.slow),
        pytest.param("suite", "example-suite", marks=pytest.mark.slow),
        pytest.param("net", "example_gated_mlp", marks=pytest.mark.slow),
    ],
)
def test_it_behaves(kind, name, site, tmp_path):
    findings = json.loads(trainoff(site, "check", "--json", kind, name, cwd=tmp_path).stdout)
    assert all(finding["ok"] for finding in findings)


@pytest.mark.slow
def test_its_suite_runs(site, tmp_path):
    done = trainoff(
        site, "run", "example-suite", "--json", "--out", str(tmp_path / "run"), "--workers", "1", cwd=tmp_path
    )
    rows = json.loads(done.stdout)
    assert {row["recipe"] for row in rows} == {"adamw", "sign-momentum", "adamw-noise"}
    records = [json.loads(path.read_text()) for path in (tmp_path / "run" / "records").glob("*.json")]
    assert len(records) == 9
    assert {record["status"] for record in records} == {"ok"}


def test_a_shipped_name_stays_with_trainoff(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(ROOT / "examples" / "plugin", source)
    project = source / "pyproject.toml"
    project.write_text(project.read_text().replace("example_sign_momentum =", "adamw ="))
    install(source, tmp_path / "site")
    shown = trainoff(tmp_path / "site", "show", "adamw", cwd=tmp_path)
    assert "class: torch.optim.AdamW" in shown.stdout
    assert "trainoff_example" not in shown.stdout
    assert (
        "the optimizer 'adamw' of package 'trainoff-example-plugin' is ignored: trainoff has that name" in shown.stderr
    )


def test_of_two_packages_the_first_keeps_the_name(site, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(ROOT / "examples" / "plugin", source)
    project = source / "pyproject.toml"
    project.write_text(project.read_text().replace("trainoff-example-plugin", "zealous-plugin"))
    install(source, tmp_path / "site")
    both = f"{site}{os.pathsep}{tmp_path / 'site'}"
    listed = trainoff(both, "list", "optimizers", cwd=tmp_path)
    assert sum(line.startswith("example_sign_momentum") for line in listed.stdout.splitlines()) == 1
    assert "of package 'zealous-plugin' is ignored: trainoff-example-plugin has that name" in listed.stderr


def test_nothing_was_built_in_the_repository():
    folder = ROOT / "examples" / "plugin"
    assert not [path for path in folder.rglob("*") if path.name == "build" or path.suffix == ".egg-info"]
