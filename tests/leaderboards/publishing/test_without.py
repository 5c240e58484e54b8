"""What the commands do without the libraries, and what they do not import."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

REFUSING = """
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refusing())
"""
HEAVY = ("torch", "lightning", "pandas", "sklearn", "scipy.stats")
COMMANDS = {
    "publish": ["publish", "{folder}", "--project", "p"],
    "publish --offline": ["publish", "{folder}", "--project", "p", "--offline"],
    "pull": ["pull", "p"],
    "run --wandb": ["run", "smoke", "--wandb", "p"],
}


def trainoff(arguments, folder, tmp_path, blocked=()):
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(REFUSING.format(blocked=tuple(blocked)))
    paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, "-m", "trainoff", *(word.format(folder=folder) for word in arguments)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_without_wandb_each_command_says_how_to_install_it(command, folder, tmp_path):
    done = trainoff(COMMANDS[command], folder, tmp_path, ["wandb", "wandb_workspaces"])
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "trainoff: wandb: Weights & Biases' client is not installed: pip install wandb"
    ]
    assert not (tmp_path / "runs").exists()


def test_without_the_report_library_publish_says_how_to_install_it(folder, tmp_path):
    done = trainoff(COMMANDS["publish"], folder, tmp_path, ["wandb_workspaces"])
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "trainoff: wandb: a Report needs wandb-workspaces: pip install 'trainoff[report]'"
    ]


def test_the_page_needs_no_report_library(server, folder, tmp_path):
    done = trainoff(COMMANDS["publish --offline"], folder, tmp_path, ["wandb_workspaces", "torch", "lightning"])
    assert done.returncode == 0, done.stderr
    assert (folder / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_nothing_heavy_is_imported_on_either_side(tmp_path):
    code = f"""
import json, sys
import trainoff.leaderboards.publishing.publish, trainoff.leaderboards.publishing.offline
import trainoff.leaderboards.publishing.pull, trainoff.leaderboards.publishing.live
first = [name for name in {(*HEAVY, "wandb", "wandb_workspaces")!r} if name in sys.modules]
import trainoff.leaderboards.publishing.wandb_process, trainoff.leaderboards.report.workspaces
print(json.dumps([first, [name for name in {HEAVY[:2]!r} if name in sys.modules]]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True,
                          env={**os.environ, "WANDB_ERROR_REPORTING": "false"})  # fmt: skip
    assert json.loads(done.stdout) == [[], []]


@pytest.mark.parametrize("name", ["", "a/b", "what?", "x" * 200])
def test_a_project_s_name_that_wandb_refuses(name, folder, capsys):
    from trainoff.command_line import main

    for arguments in (["publish", str(folder), "--project", name], ["pull", name], ["run", "smoke", "--wandb", name]):
        assert main(arguments) == 2
        assert "is no project's name" in capsys.readouterr().err


def test_a_suite_with_a_secret_is_refused_before_anything_is_written(tmp_path, monkeypatch, capsys):
    from trainoff.command_line import main

    monkeypatch.chdir(tmp_path)
    secret = "hf_" + "abcdefGHIJ" * 4
    (tmp_path / "s.yaml").write_text(
        "name: s\nseeds: 1\nrecipes: {adamw: {}}\n"
        "tasks:\n  t: {module: classifier, metric: accuracy, budget: {epochs: 1},\n"
        f"    data: {{class_path: secret_project.Data, init_args: {{token: {secret}}}}}}}\n"
    )
    (tmp_path / "secret_project.py").write_text(
        "from trainoff.datamodules import Digits\n\nclass Data(Digits):\n"
        "    def __init__(self, token: str = '') -> None:\n        super().__init__()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["run", "s.yaml", "--out", "run"]) == 2
    said = capsys.readouterr().err
    assert "looks like a secret" in said
    assert "tasks.t.data.init_args.token" in said
    assert secret not in said
    assert not (tmp_path / "run").exists()
