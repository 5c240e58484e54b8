"""Shipped things pass; each deliberately broken one fails exactly the checks that it should."""

from __future__ import annotations

import json
import os
import sys

import lightning as L
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from trainoff.benchmarks.conformance import check
from trainoff.command_line import main
from trainoff.datamodules import Digits
from trainoff.errors import UserError
from trainoff.modules.nets import MLP
from trainoff.modules.regularizers import Regularizer


def failed(kind, target):
    """The names of the failed checks; a class is given by its path."""
    path = target if isinstance(target, str) else f"{__name__}.{target.__name__}"
    return {finding.name for finding in check(kind, path) if not finding.ok}


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


# optimizers


class Descent(torch.optim.Optimizer):
    """Momentum, right in every way; the broken ones change one thing each."""

    def __init__(self, params, lr=0.05):
        super().__init__(params, {"lr": lr})

    def step(self, closure=None):
        loss = None if closure is None else closure()
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self.move(parameter, self.momentum(parameter), group["lr"])
        return loss

    def memory(self, parameter):
        return self.state[parameter]

    def momentum(self, parameter):
        memory = self.memory(parameter)
        memory["sum"] = memory["sum"] * 0.9 + parameter.grad if "sum" in memory else parameter.grad.clone()
        return memory["sum"]

    def move(self, parameter, direction, lr):
        parameter.sub_(lr * direction)


class Forgetful(Descent):
    """Keeps its memory where no checkpoint finds it."""

    def memory(self, parameter):
        return self.__dict__.setdefault("memories", {}).setdefault(id(parameter), {})


class Uphill(Descent):
    def move(self, parameter, direction, lr):
        parameter.add_(lr * direction)


class Restless(Descent):
    def move(self, parameter, direction, lr):
        noise = int.from_bytes(os.urandom(4), "big") / 2**32
        parameter.sub_(lr * direction * (1 + 1e-3 * noise))


class OneRate(Descent):
    """Reads the learning rate where groups and schedules do not write it."""

    def move(self, parameter, direction, lr):
        parameter.sub_(self.defaults["lr"] * direction)


class NoClosure(Descent):
    def step(self, closure=None):
        return super().step(None)


class Locked(Descent):
    """Its state holds what cannot be pickled."""

    def memory(self, parameter):
        memory = self.state[parameter]
        memory["rule"] = lambda: None
        return memory


class Demanding(Descent):
    def __init__(self, params, temperature, lr=0.05):
        super().__init__(params, lr)


def test_a_plain_optimizer_behaves():
    assert failed("optimizer", Descent) == set()


@pytest.mark.parametrize(
    ("broken", "checks"),
    [
        (Forgetful, {"resumes"}),
        (Uphill, {"trains"}),
        (NoClosure, {"trains"}),
        (Restless, {"deterministic"}),
        (OneRate, {"parameter groups"}),
        (Locked, {"resumes", "pickles"}),
        (Demanding, {"builds"}),
        ("torch.nn.Linear", {"builds"}),
        ("math.pi", {"builds"}),
        ("builtins.dict", {"builds"}),
    ],
)
def test_a_broken_optimizer_fails_its_check(broken, checks):
    assert failed("optimizer", broken) == checks


@pytest.mark.parametrize(("target", "name"), [("torch.nn.Linear", "Linear"), ("math.pi", "3.14")])
def test_what_is_no_optimizer_is_told_so(target, name):
    (finding,) = check("optimizer", target)
    assert finding.detail.startswith(name)
    assert "is not a torch.optim.Optimizer; derive it from that class" in finding.detail


def test_an_optimizer_that_repeats_its_closure_gets_all_samples_at_a_step():
    """Five epochs, so five steps; a group of its own is not offered, and no failure."""
    findings = {finding.name: finding for finding in check("optimizer", "lbfgs")}
    assert findings["trains"].detail.endswith("in 5 steps")
    assert not findings["parameter groups"].offered
    assert "one group" in findings["parameter groups"].detail


def test_what_rests_on_a_failed_check_is_named_there():
    (restless,) = [f for f in check("optimizer", f"{__name__}.Restless") if not f.ok]
    assert restless.detail.endswith("(so not checked: resumes)")
    findings = check("optimizer", f"{__name__}.Demanding")
    assert [finding.name for finding in findings] == ["builds"]
    assert "needs 'temperature'" in findings[0].detail


# regularizers


class Shrink(Regularizer):
    """Scales gradients, right in every way."""

    def __init__(self, factor: float = 0.9):
        super().__init__()
        self.factor = factor

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad.mul_(self.factor)


class ChangesBatches(Regularizer):
    """Augments in place: where batches are views, the set is changed."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        batch[0].add_(0.01)


class ChangesValidation(Regularizer):
    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        batch[0].mul_(0.9)


class Addressed(Shrink):
    def __init__(self):
        super().__init__()
        self.address = id(self)


class Counting(Shrink):
    """Counts where the key of its state is made from."""

    steps = 0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.steps += 1


class Unsaved(Shrink):
    """What it does depends on a count that no checkpoint holds."""

    def __init__(self):
        super().__init__()
        self._steps = 0

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self._steps += 1
        if self._steps % 30 == 0:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad.zero_()


class Everywhere(L.Callback):
    """Not derived from Regularizer, so nothing confines it to its own module."""

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        for parameter in pl_module.parameters():
            parameter.grad.mul_(0.9).add_(1e-3)


class Choosy(Shrink):
    """Needs a dropout layer, and does not say so by ``acts_on``."""

    def on_fit_start(self, trainer, pl_module):
        if not any(isinstance(layer, nn.Dropout) for layer in pl_module.modules()):
            raise UserError("no dropout layer")


class HonestlyChoosy(Choosy):
    acts_on = "net"


class Misplaced(Shrink):
    acts_on = "moon"


@pytest.mark.parametrize("regularizer", [Shrink, HonestlyChoosy])
def test_a_plain_regularizer_behaves(regularizer):
    assert failed("regularizer", regularizer) == set()


@pytest.mark.parametrize(
    ("broken", "checks"),
    [
        (ChangesBatches, {"leaves data alone"}),
        (ChangesValidation, {"leaves data alone"}),
        (Addressed, {"state key"}),
        (Counting, {"state key"}),
        (Unsaved, {"resumes"}),
        (Everywhere, {"acts on", "inert elsewhere"}),
        (Choosy, {"foreign module"}),
        (Misplaced, {"acts on"}),
    ],
)
def test_a_broken_regularizer_fails_its_check(broken, checks):
    assert failed("regularizer", broken) == checks


def test_a_regularizer_that_is_no_callback():
    assert failed("regularizer", f"{__name__}.NoCallback") == {"builds"}


class NoCallback:
    pass


# nets


class Spare(MLP):
    """Has a layer that nothing uses."""

    def __init__(self, input_shape, output_size):
        super().__init__(input_shape, output_size, hidden=[32])
        self.spare = nn.Linear(3, 3)


class FixedSizes(nn.Module):
    def __init__(self, width=4):
        super().__init__()


class AlwaysTen(MLP):
    def __init__(self, input_shape, output_size):
        super().__init__(input_shape, 10, hidden=[32])


class Sociable(MLP):
    """In eval mode a sample's output depends on the others'."""

    def __init__(self, input_shape, output_size):
        super().__init__(input_shape, output_size, hidden=[32])

    def forward(self, inputs):
        return super().forward(inputs - inputs.mean(0))


class HiddenState(MLP):
    """Random numbers that are neither a parameter nor a buffer."""

    def __init__(self, input_shape, output_size):
        super().__init__(input_shape, output_size, hidden=[32])
        self.mask = torch.rand(output_size)

    def forward(self, inputs):
        outputs = super().forward(inputs)
        return outputs * self.mask.to(outputs)


class Anonymous(MLP):
    def __init__(self, input_shape, output_size):
        super().__init__(input_shape, output_size, hidden=[32])
        self.scale = lambda outputs: 1.1 * outputs

    def forward(self, inputs):
        return self.scale(super().forward(inputs))


class FullPrecisionOnly(MLP):
    def __init__(self, input_shape, output_size):
        super().__init__(input_shape, output_size, hidden=[32])

    def forward(self, inputs):
        outputs = super().forward(inputs)
        return outputs + float(outputs.detach().numpy().mean()) * 0


class Constant(MLP):
    """Its outputs do not depend on its inputs enough to learn."""

    def __init__(self, input_shape, output_size):
        super().__init__(input_shape, output_size, hidden=[32])

    def forward(self, inputs):
        return super().forward(inputs * 0)


@pytest.mark.parametrize(
    ("broken", "checks"),
    [
        (Spare, {"gradients"}),
        (FixedSizes, {"takes sizes"}),
        (AlwaysTen, {"output shape"}),
        (Sociable, {"evaluation"}),
        (HiddenState, {"state dict"}),
        (Anonymous, {"pickles"}),
        (FullPrecisionOnly, {"bf16"}),
        (Constant, {"trains"}),
    ],
)
def test_a_broken_net_fails_its_check(broken, checks):
    assert failed("net", broken) == checks


# DataModules


class Plain(L.LightningDataModule):
    """A DataModule on torch's DataLoader, right in every way."""

    input_shape = (4,)
    num_classes = 3

    def __init__(self):
        super().__init__()
        self.batch_size = 16

    def setup(self, stage=None):
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(90, 4, generator=generator)
        self.inputs, self.targets = inputs, torch.arange(90) % 3

    def part(self, start, stop, **options):
        samples = TensorDataset(self.inputs[start:stop], self.targets[start:stop])
        return DataLoader(samples, **{"batch_size": 32, **options})

    def train_dataloader(self):
        return self.part(0, 50, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return self.part(50, 70)

    def test_dataloader(self):
        return self.part(70, 90)


class Reshuffled(Plain):
    """Splits by the global generator, anew at each setup."""

    def setup(self, stage=None):
        super().setup(stage)
        order = torch.randperm(90)
        self.inputs, self.targets = self.inputs[order], self.targets[order]


class DropsTheLast(Plain):
    def val_dataloader(self):
        return self.part(50, 70, batch_size=16, drop_last=True)


class ShuffledTest(Plain):
    def test_dataloader(self):
        generator = torch.Generator()
        generator.seed()
        return self.part(70, 90, shuffle=True, generator=generator)


class Leaky(Plain):
    def test_dataloader(self):
        return self.part(30, 50)


class Stubborn(Plain):
    def train_dataloader(self):
        return self.part(0, 50, batch_size=10)


class NoBatchSize(Plain):
    def __init__(self):
        L.LightningDataModule.__init__(self)

    def train_dataloader(self):
        return self.part(0, 50, batch_size=10)


class NoTest(Plain):
    test_dataloader = L.LightningDataModule.test_dataloader


class DeclinesTest(Plain):
    """Says so already when it is set up."""

    def setup(self, stage=None):
        if stage == "test":
            raise NotImplementedError("the test labels are secret")
        super().setup(stage)

    def test_dataloader(self):
        raise NotImplementedError("the test labels are secret")


class OnlyTrain(NoTest):
    def val_dataloader(self):
        return []


class BrokenTest(Plain):
    def test_dataloader(self):
        raise FileNotFoundError("test.csv")


class NoTrain(Plain):
    train_dataloader = L.LightningDataModule.train_dataloader


class NoSizes(Plain):
    num_classes = None


class WrongClasses(Plain):
    num_classes = 2


class NotSendable(Plain):
    def __init__(self):
        super().__init__()
        self.transform = lambda inputs: inputs


def test_a_plain_datamodule_behaves():
    assert failed("datamodule", Plain) == set()


@pytest.mark.parametrize(
    ("broken", "checks"),
    [
        (Reshuffled, {"random state", "setup twice", "equal instances"}),
        (DropsTheLast, {"evaluates each sample once"}),
        (ShuffledTest, {"evaluates each sample once"}),
        (Leaky, {"splits disjoint"}),
        (Stubborn, {"batch size"}),
        (NoBatchSize, {"batch size"}),
        (BrokenTest, {"loaders"}),
        (NoTrain, {"loaders"}),
        (NoSizes, {"sizes"}),
        (WrongClasses, {"sizes"}),
        (NotSendable, {"pickles"}),
        ("torch.nn.Identity", {"builds"}),
    ],
)
def test_a_broken_datamodule_fails_its_check(broken, checks):
    assert failed("datamodule", broken) == checks


@pytest.mark.parametrize(
    ("datamodule", "not_offered", "said"),
    [
        (Plain, set(), ""),
        (NoTest, {"test split"}, "has no test_dataloader; a suite chooses settings on validation and reports on test"),
        (DeclinesTest, {"test split"}, "test_dataloader raises NotImplementedError: the test labels are secret"),
        (
            OnlyTrain,
            {"val split", "test split", "evaluates each sample once", "splits disjoint"},
            "has no test_dataloader",
        ),
    ],
)
def test_a_split_that_is_not_offered_is_no_failure(datamodule, not_offered, said):
    findings = check("datamodule", f"{__name__}.{datamodule.__name__}")
    assert all(finding.ok for finding in findings)
    without = {finding.name: finding.detail for finding in findings if not finding.offered}
    assert without.keys() == not_offered
    assert said in without.get("test split", "")


def test_the_command_says_what_is_not_offered(capsys):
    assert main(["check", "datamodule", f"{__name__}.NoTest"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("-")]
    assert line.startswith("-       test split: has no test_dataloader")
    assert lines[-1] == f"{__name__}.NoTest: 11 of 11 checks passed, 1 not offered"
    assert main(["check", "--json", "datamodule", f"{__name__}.NoTest"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert [finding["name"] for finding in findings if not finding["offered"]] == ["test split"]


# suites

SUITE = """
name: mine
seeds: {tune: 1, final: 2}
tasks:
  digits: {module: {name: classifier, net: linear}, data: digits, metric: METRIC, mode: max, budget: {epochs: 1}}
recipes:
  adamw: {}
  other: OTHER
"""


def suite_file(folder, metric="accuracy", other="{base: adamw, schedule: cosine}", **replaced):
    text = SUITE.replace("METRIC", metric).replace("OTHER", other)
    for old, new in replaced.items():
        text = text.replace(old, new)
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("changes", "checks"),
    [
        ({}, set()),
        ({"budget": "bugdet"}, {"parses"}),
        ({"other": "{optimizer: {name: adamw, learning_rate: 1}}"}, {"parses"}),
        ({"data: digits,": "data: {name: digits, train_samples: 9999},"}, {"data"}),
        ({"other": "{regularizers: [dropout]}"}, {"recipes apply"}),
        ({"metric": "top5"}, {"metrics"}),
        ({"other": "{batch: 5000}"}, {"plan"}),
    ],
)
def test_a_suite(changes, checks, tmp_path):
    assert failed("suite", suite_file(tmp_path, **changes)) == checks


def test_a_recipe_that_cannot_apply_is_named(tmp_path):
    path = suite_file(tmp_path, other="{regularizers: [dropout]}")
    (finding,) = [finding for finding in check("suite", path) if not finding.ok]
    assert finding.detail.startswith("other on digits: dropout: Classifier has no dropout layer")


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


def test_the_command_says_what_failed(capsys):
    assert main(["check", "datamodule", f"{__name__}.Leaky"]) == 1
    assert "FAILED  splits disjoint: 20 of 20 test samples are train samples too" in capsys.readouterr().out


def test_the_command_as_json(capsys):
    assert main(["check", "--json", "datamodule", f"{__name__}.Stubborn"]) == 1
    findings = json.loads(capsys.readouterr().out)
    assert [finding["name"] for finding in findings if not finding["ok"]] == ["batch size"]


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


def test_the_data_that_checks_train_on_are_digits():
    from trainoff.benchmarks.conformance.nets import _ColourDigits, _FlatDigits, _LargeDigits

    labels = Digits().split("train")[1]
    for data, shape in ((_ColourDigits, (3, 32, 32)), (_FlatDigits, (64,)), (_LargeDigits, (1, 32, 32))):
        inputs, targets = data().split("train")
        assert tuple(inputs.shape[1:]) == data().input_shape == data.facts.input_shape == shape
        assert torch.equal(targets, labels)
    small = F.avg_pool2d(_LargeDigits().split("val")[0], 4)
    torch.testing.assert_close(small, Digits().split("val")[0])


def test_nets_for_tokens_are_not_said_to_misbehave(capsys):
    assert main(["check", "net", "gpt2"]) == 2
    assert "gpt2: takes token numbers" in capsys.readouterr().err
