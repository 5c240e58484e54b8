"""Each deliberately broken DataModule fails exactly the checks that it should."""

from __future__ import annotations

import json

import lightning as L
import pytest
import torch
from failed_checks import failed
from torch.utils.data import DataLoader, TensorDataset

from trainoff.benchmarks.conformance import check
from trainoff.command_line import main


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


def test_the_command_says_what_failed(capsys):
    assert main(["check", "datamodule", f"{__name__}.Leaky"]) == 1
    assert "FAILED  splits disjoint: 20 of 20 test samples are train samples too" in capsys.readouterr().out


def test_the_command_as_json(capsys):
    assert main(["check", "--json", "datamodule", f"{__name__}.Stubborn"]) == 1
    findings = json.loads(capsys.readouterr().out)
    assert [finding["name"] for finding in findings if not finding["ok"]] == ["batch size"]
