"""The examples run as a user runs them, and the command line says the same as Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lightning.pytorch.cli import LightningCLI

from trainoff import command_line, read_board
from trainoff.datamodules import Digits
from trainoff.modules import Classifier, Recipe

ROOT = Path(__file__).resolve().parents[1]
QUIET = [
    "--trainer.max_epochs=1", "--trainer.logger=false", "--trainer.enable_checkpointing=false",
    "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A copy of the examples, so that runs leave nothing behind."""
    for path in (ROOT / "examples").iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    return tmp_path


def run(folder, *command, status=0, timeout=180):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == status, done.stdout[-2000:] + done.stderr[-4000:]
    return done


def test_readme_names_every_example():
    readme = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "examples").iterdir():
        if path.name != "README.md" and not path.name.startswith(("_", ".")) and path.name not in ("runs",):
            assert f"`{path.name}" in readme


def test_own_module_recipe(folder):
    output = run(folder, sys.executable, "own_module_recipe.py").stdout
    assert "optimizer: AdamW" in output
    assert "net.0.*" in output
    assert "MicrobatchAveraging" in output


def test_adam_by_hand_by_lightning_and_by_a_recipe_end_at_equal_parameters(folder):
    """The example compares them itself, within 1e-5; they have moved ten thousand times as far."""
    output = run(folder, sys.executable, "adam_three_ways.py").stdout
    assert float(output.partition("moved by up to ")[2].split()[0]) > 0.1
    for name in ("Lightning", "trainoff"):
        assert float(output.partition(f"{name} and the loop by hand differ by at most ")[2].split()[0]) < 1e-5


@pytest.mark.slow
def test_compare_recipes_from_an_unguarded_script(folder):
    output = run(folder, sys.executable, "compare_recipes.py").stdout
    for name in ("sgd", "adamw-cosine", "nadam-batch64"):
        assert name in output
    rows = read_board(folder / "runs" / "MyModule").to_dicts()
    assert [row["seeds_ok"] for row in rows] == [3, 3, 3]


@pytest.mark.slow
def test_own_suite(folder):
    """The classes are found in the working directory; a second run trains nothing."""
    command = [sys.executable, "-m", "trainoff", "run", "own_suite.yaml"]
    assert "11 trials run, 0 found" in run(folder, *command).stdout
    assert "0 trials run, 11 found" in run(folder, *command).stdout
    assert {row["seeds_ok"] for row in read_board(folder / "runs" / "own").to_dicts()} == {3}


@pytest.mark.slow
def test_own_script_of_lightning_cli(folder):
    run(folder, sys.executable, "lightning_cli.py", "fit", "--model.recipe=adamw-cosine", *QUIET)


@pytest.mark.parametrize("library", ["timm", "transformers"])
def test_examples_with_a_library_skip_in_one_line_where_it_is_absent(folder, library):
    (folder / f"{library}.py").write_text(f"raise ModuleNotFoundError(\"No module named '{library}'\")\n")
    done = run(folder, sys.executable, f"{library}_net.py")
    assert done.stdout == f"skipped: No module named '{library}'; pip install {library}\n"
    assert not done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("library", "net"), [("timm", "ResNet"), ("transformers", "ViTForImageClassification")])
def test_examples_with_a_library(folder, library, net):
    pytest.importorskip(library, exc_type=ImportError)
    output = run(folder, sys.executable, f"{library}_net.py").stdout
    assert f"net: {net}\n" in output
    accuracy = float(output.partition("test/accuracy")[2].split()[1])
    assert accuracy > 0.8


def hyperparameters(*arguments):
    """Those of the model that LightningCLI makes of the arguments."""
    cli = LightningCLI(Classifier, Digits, run=False, save_config_callback=None, args=[*arguments, *QUIET[1:]],
                       seed_everything_default=False, parser_kwargs={"exit_on_error": False})  # fmt: skip
    return dict(cli.model.hparams)


@pytest.mark.parametrize(
    ("arguments", "optimizer"),
    [
        (["--model.recipe.optimizer", "adamw"], "adamw"),
        (["--model.recipe.optimizer", "{name: adamw, lr: 0.01}"], {"name": "adamw", "lr": 0.01}),
        (
            ["--model.recipe.optimizer.name", "adamw", "--model.recipe.optimizer.lr", "0.01"],
            {"name": "adamw", "lr": 0.01},
        ),
        (["--model.recipe", "adamw"], "adamw"),
    ],
)
def test_spellings_of_the_optimizer_equal_python(arguments, optimizer):
    assert hyperparameters(*arguments) == dict(Classifier("mlp", recipe=Recipe(optimizer=optimizer)).hparams)


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        (["--model.recipe.schedule.name=cosine", "--model.recipe.schedule.warmup=0.1"],
         {"schedule": {"name": "cosine", "warmup": 0.1}}),
        (["--model.recipe.regularizers=[l2, {name: dropout, p: 0.3}]", "--model.recipe.batch=full"],
         {"regularizers": ["l2", {"name": "dropout", "p": 0.3}], "batch": "full"}),
        (["--model.recipe.batch=64", "--model.recipe.microbatches=4", "--model.recipe.precision=bf16"],
         {"batch": 64, "microbatches": 4, "precision": "bf16"}),
        (["--model.recipe.pruning=gradual"], {"pruning": "gradual"}),
        (["--model.recipe.pruning.name=magnitude", "--model.recipe.pruning.sparsity=0.9"],
         {"pruning": {"name": "magnitude", "sparsity": 0.9}}),
        (["--model.recipe=adamw-synflow"], {"pruning": "synflow"}),
        (["--model.recipe=adamw-cosine-l2"], {"schedule": "cosine", "regularizers": ["l2"]}),
    ],
)  # fmt: skip
def test_recipe_arguments_equal_python(arguments, fields):
    assert hyperparameters(*arguments) == dict(Classifier("mlp", recipe=Recipe(**fields)).hparams)


def test_net_arguments_equal_python():
    expected = dict(Classifier({"name": "mlp", "hidden": [16]}).hparams)
    assert hyperparameters("--model.net={name: mlp, hidden: [16]}") == expected
    assert hyperparameters("--model.net.name=mlp", "--model.net.hidden=[16]") == expected


@pytest.mark.parametrize("path", ["torch.nn.Linear", "torch.nn.functional.linear"])  # a class and a function
def test_a_net_by_class_path_equals_python(path):
    part = {"class_path": path, "init_args": {"in_features": 64}}
    net = {"class_path": "timeit.Timer", "init_args": {"stmt": part}}
    assert hyperparameters(f"--model.net={json.dumps(net)}") == dict(Classifier(net).hparams)


def test_a_mixture_of_spellings_is_an_error():
    with pytest.raises(Exception, match="has no name"):
        hyperparameters("--model.recipe.optimizer", "adamw", "--model.recipe.optimizer.lr", "0.01")


@pytest.fixture
def fit(tmp_path, monkeypatch, capsys):
    """`trainoff fit` in a folder of its own; gives the status, the last line of standard error and the saved model."""
    import yaml

    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        status = command_line.main(["fit", *arguments, *QUIET])
        errors = capsys.readouterr().err.strip().splitlines()
        config = tmp_path / "config.yaml"
        saved = yaml.safe_load(config.read_text()) if config.exists() else None
        return status, errors[-1] if errors else "", saved

    return call


@pytest.mark.parametrize(
    ("model", "data"),
    [
        ("classifier", "digits"),
        ("Classifier", "Digits"),
        ("trainoff.modules.Classifier", "trainoff.datamodules.Digits"),
    ],
)
def test_fit_takes_names_and_class_paths(fit, model, data):
    status, _, saved = fit("--model", model, f"--data={data}", "--model.recipe.optimizer={name: sgd, lr: 0.1}")
    assert status == 0
    arguments = saved["model"]["init_args"]
    made = Classifier(net=arguments["net"], recipe={k: v for k, v in arguments["recipe"].items() if v is not None})
    assert dict(made.hparams) == dict(Classifier(recipe=Recipe(optimizer={"name": "sgd", "lr": 0.1})).hparams)


def test_fit_hands_the_recipe_to_the_trainer(fit):
    """A Trainer without them would be refused at the start of fit."""
    status, error, _ = fit("--model=classifier", "--data=digits", "--model.recipe.microbatches=4",
                           "--model.recipe.batch=64", "--model.recipe.precision=bf16")  # fmt: skip
    assert status == 0, error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model=clasifier", "--data=digits"], "did you mean classifier"),
        (["--model=classifier", "--data=digit"], "did you mean digits"),
        ([], "--model and --data are missing; for example: trainoff fit --model classifier --data digits"),
        (["--model=classifier"], "--data is missing; for example: trainoff fit --model classifier --data digits"),
        (["--data=digits"], "--model is missing"),
        (["--model=classifier", "--data=digits", "--model.recipe.optimizer=adanw"], "adamw"),
        (["--model=classifier", "--data=digits", "--model.recipe=adamw-cosin"], "did you mean cosine"),
        (["--model=classifier", "--data=digits", "--data.batch_size=x"], "data.batch_size: x is not int"),
        (["--model=classifier", "--data=digits", "--data.batch_sz=3"], "batch_sz"),
        (["--model=classifier", "--data=digits", "--trainer.max_steps=x"], "trainer.max_steps: x is not int"),
        (["--model=no.such.Class", "--data=digits"], "no"),
        (["--model=classifier", "--data=digits", "--model.recipe.optimizer=adamw", "--model.recipe.optimizer.lr=0.01"],
         "has no name"),
    ],
)  # fmt: skip
def test_fit_says_a_mistake_in_one_line(fit, arguments, said):
    status, error, saved = fit(*arguments)
    assert status == 2
    assert error.startswith("trainoff: ")
    assert said in error
    assert len(error) < 300
    assert saved is None
