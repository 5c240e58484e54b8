"""What is shipped passes its checks; targets that are not there, and the command."""

from __future__ import annotations

import sys

import pytest
from failed_checks import failed

from trainoff.benchmarks.conformance import check
from trainoff.command_line import main
from trainoff.errors import UserError


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("optimizer", "adamw"),
        ("optimizer", "torch.optim.RMSprop"),
        ("optimizer", "torch.optim.LBFGS"),
        ("regularizer", "l2"),
        ("regularizer", "dropout"),
        ("net", "mlp"),
        ("net", "linear"),
        ("datamodule", "digits"),
        ("datamodule", "diabetes"),
        ("suite", "smoke"),
        ("suite", "search-digits"),
    ],
)
def test_what_is_shipped_behaves(kind, name):
    assert failed(kind, name) == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *[("optimizer", name) for name in ("adam", "adagrad", "adamax", "nadam", "radam", "rmsprop", "adopt", "lamb")],
        *[("regularizer", name) for name in ("l1", "lp", "weight_decay", "gradient_clip")],
        *[("regularizer", name) for name in ("ewc", "curriculum", "gradient_penalty", "mixup")],
        ("optimizer", "kahan_sgd"),
        ("net", "lenet5"),
        ("optimizer", "sgd"),
        ("optimizer", "lion"),
        ("regularizer", "label_smoothing"),
        ("regularizer", "early_stopping"),
        ("net", "trainoff.modules.nets.mlp.MLP"),
        ("datamodule", "wine"),
        ("suite", "digits"),
        ("net", "resnet20"),
        ("net", "alexnet"),
        ("net", "densenet121"),
        ("datamodule", "breast_cancer"),
        ("datamodule", "mnist1d"),
        ("suite", "overfit"),
        ("suite", "surgery"),
        ("net", "dcgan"),
        ("suite", "gan-tiny"),
    ],
)
def test_more_of_what_is_shipped_behaves(kind, name):
    assert failed(kind, name) == set()


def test_a_finding_says_what_was_measured():
    findings = {finding.name: finding for finding in check("optimizer", "adamw")}
    assert findings["trains"].detail.startswith("loss 2.3")
    assert findings["trains"].detail.endswith("in 85 steps")


def test_a_rate_that_trains_is_found_and_said():
    (trains,) = [finding for finding in check("optimizer", "sgd") if finding.name == "trains"]
    assert "at lr 0.1 (but loss" in trains.detail


# targets and the command


@pytest.mark.parametrize(
    ("kind", "target", "message"),
    [
        ("optimizer", "adamwww", "did you mean adamw"),
        ("optimizer", "torch.optim.Adamm", "did you mean Adam"),
        ("net", "no_such_package.Net", "no module named 'no_such_package'"),
        ("suite", "digit", "did you mean digits"),
        ("suite", "nowhere.yaml", "nowhere.yaml"),
        ("schedule", "cosine", "no kind is called 'schedule'"),
    ],
)
def test_a_target_that_is_not_there(kind, target, message):
    with pytest.raises(UserError, match=message):
        check(kind, target)


def test_a_module_that_cannot_be_imported_is_told_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "halfway_written.py").write_text("class Mine(\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="importing it raises SyntaxError") as raised:
        check("optimizer", "halfway_written.Mine")
    assert "\n" not in str(raised.value)


def test_the_command(capsys):
    assert main(["check", "datamodule", "wine"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ok      builds: Wine with its defaults, data and all"
    assert lines[-1] == "wine: 12 of 12 checks passed"


def test_the_command_on_a_target_that_is_not_there(capsys):
    assert main(["check", "net", "mlpp"]) == 2
    assert capsys.readouterr().err.startswith("trainoff: no net is called 'mlpp'; did you mean mlp")


def test_a_class_of_the_working_directory_is_found(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_own_net.py").write_text(
        "from trainoff.modules.nets import MLP\nclass Mine(MLP):\n"
        "    def __init__(self, input_shape, output_size):\n        super().__init__(input_shape, output_size, [16])\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["check", "net", "my_own_net.Mine"]) == 0


def test_the_training_is_quiet(capfd):
    check("net", "linear")
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
