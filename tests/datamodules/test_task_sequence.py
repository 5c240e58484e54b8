"""Tasks in sequence: whose turn it is, what is evaluated, and what EWC keeps of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from users_project import make_trainer

from trainoff.datamodules import Altered, Digits, TaskSequence
from trainoff.errors import UserError
from trainoff.modules import Classifier, Recipe
from trainoff.running import run

PERMUTED = {"name": "altered", "data": "digits", "alterations": [{"name": "permute_inputs", "seed": 1}]}


def sequence(epochs: int = 2, **arguments: Any) -> TaskSequence:
    return TaskSequence(["digits", PERMUTED], epochs, **arguments)


def epoch(data: TaskSequence, number: int) -> list[tuple[Tensor, ...]]:
    loader = data.train_dataloader()
    loader.set_epoch(number)
    return list(loader)


def rows(batches: list[tuple[Tensor, ...]]) -> list[bytes]:
    return sorted(row.numpy().tobytes() for inputs, _ in batches for row in inputs)


def test_each_task_is_trained_on_in_its_turn() -> None:
    data = sequence()
    data.setup("fit")
    digits, permuted = Digits(), Altered("digits", [{"name": "permute_inputs", "seed": 1}])
    expected = [rows([module.split("train")]) for module in (digits, permuted)]
    assert [expected.index(rows(epoch(data, number))) for number in range(6)] == [0, 0, 1, 1, 1, 1]
    assert [data.finished_tasks(number) for number in range(6)] == [0, 0, 1, 1, 1, 1]


def test_all_tasks_are_evaluated_and_each_alone_can_be() -> None:
    data = sequence()
    data.setup("fit")
    for name, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        alone = [row for task in range(2) for row in rows(list(data.task_dataloader(name, task)))]
        assert rows(list(loader)) == sorted(alone)
        assert len(alone) == 2 * len(Digits().split(name)[0])
    train_eval = rows(list(data.train_eval_dataloader()))
    assert len(train_eval) == len(rows(list(data.test_dataloader())))


def test_splits_are_cut_to_the_smallest_tasks() -> None:
    data = TaskSequence(["digits", {"name": "digits", "train_samples": 100}], 1)
    assert len(data.task_split("train", 0)[0]) == len(data.task_split("train", 1)[0]) == 100


class Seen(L.LightningModule):
    """Keeps the inputs that it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)
        self.seen: list[Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.seen.append(batch[0].clone())
        return F.cross_entropy(self.layer(batch[0].flatten(1)), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def test_a_trainer_sees_the_tasks_in_sequence() -> None:
    torch.manual_seed(0)
    data, module = sequence(1, batch_size=64), Seen()
    make_trainer(max_epochs=3, limit_val_batches=0).fit(module, datamodule=data)
    expected = [inputs for number in range(3) for inputs, _ in epoch(data, number)]
    assert all(torch.equal(one, other) for one, other in zip(module.seen, expected, strict=True))


def train(regularizers: list[Any], epochs: int = 4, **trainer: Any) -> tuple[Classifier, TaskSequence, L.Trainer]:
    L.seed_everything(1, verbose=False)
    recipe = Recipe({"name": "sgd", "lr": 0.05, "momentum": 0.9}, regularizers=regularizers, batch=32)
    module, data = Classifier({"name": "mlp", "hidden": [16]}, recipe), sequence(2)
    fitter = make_trainer(max_epochs=epochs, **trainer)
    fitter.fit(module, datamodule=data)
    return module, data, fitter


class Logged(L.Callback):
    """Keeps what is logged at the end of each validation."""

    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seen.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def accuracy(module: Classifier, part: tuple[Tensor, Tensor]) -> float:
    module.eval()
    with torch.no_grad():
        return float((module(part[0]).argmax(1) == part[1]).float().mean())


def test_each_tasks_own_accuracy_is_logged_after_each_epoch() -> None:
    logged = Logged()
    module, data, _ = train([], callbacks=[logged])
    last, second = logged.seen[-1], logged.seen[1]
    for task in range(2):
        assert last[f"val/accuracy_task{task + 1}"] == pytest.approx(accuracy(module, data.task_split("val", task)))
    for values in logged.seen:  # the tasks are equally large
        mean = (values["val/accuracy_task1"] + values["val/accuracy_task2"]) / 2
        assert mean == pytest.approx(values["val/accuracy"])
    assert second["val/accuracy_task1"] > 0.8 > second["val/accuracy_task2"]
    assert last["val/accuracy_task2"] > second["val/accuracy_task2"] + 0.3
    assert last["val/accuracy_task1"] < second["val/accuracy_task1"] - 0.05  # what is forgotten


class Written(Logged):
    """Writes what the last validation logged, and the weights, to a file of each rank."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        torch.save((self.seen[-1], pl_module.state_dict()), self.folder / f"{trainer.global_rank}.pt")


@pytest.mark.slow
def test_each_tasks_own_accuracy_counts_what_all_processes_see(tmp_path: Path) -> None:
    module, data, _ = train([], epochs=3, callbacks=[Written(tmp_path)], devices=2, strategy="ddp_spawn")
    (first, weights), (second, _) = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    module = Classifier({"name": "mlp", "hidden": [16]}, Recipe("sgd"), input_shape=(1, 8, 8), output_size=10)
    module.configure_model()
    module.load_state_dict(weights)
    assert len(data.task_split("val", 0)[0]) % 2 == 1
    for task in range(2):
        expected = accuracy(module, data.task_split("val", task))
        assert first[f"val/accuracy_task{task + 1}"] == second[f"val/accuracy_task{task + 1}"]
        assert first[f"val/accuracy_task{task + 1}"] == pytest.approx(expected)


def test_other_data_have_no_tasks() -> None:
    logged = Logged()
    make_trainer(max_epochs=1, callbacks=[logged]).fit(Classifier("linear", Recipe("sgd")), datamodule=Digits())
    assert [name for name in logged.seen[0] if "task" in name] == []


def test_ewc_anchors_the_first_tasks_end() -> None:
    """θ* are the weights after the first task's last step, F that of the first task's samples at θ*."""
    ewc = {"name": "ewc", "coefficient": 10.0, "samples": 50}
    first, data, _ = train([ewc], epochs=2)
    second, _, _ = train([ewc], epochs=3)
    anchors = next(callback for callback in second.recipe_callbacks if type(callback).__name__ == "EWC")._present
    inputs, targets = (part[:50] for part in data.task_split("train", 0))
    for name, parameter in first.named_parameters():
        torch.testing.assert_close(anchors["weights"][name], parameter.detach())
    first.eval()
    squares = {name: torch.zeros_like(parameter) for name, parameter in first.named_parameters()}
    for sample, target in zip(inputs, targets, strict=True):
        first.zero_grad()
        F.cross_entropy(first(sample[None]), target[None]).backward()
        for name, parameter in first.named_parameters():
            squares[name] += parameter.grad**2 / 50  # type: ignore[operator]
    for name, square in squares.items():
        torch.testing.assert_close(anchors["importance"][name], square, rtol=1e-4, atol=1e-7)


def test_before_a_tasks_end_ewc_does_nothing() -> None:
    one, other = train([{"name": "ewc", "coefficient": 10.0, "samples": 50}], 2)[0], train([], 2)[0]
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_training_resumed_in_the_second_task_keeps_its_anchors(tmp_path: Any) -> None:
    ewc = [{"name": "ewc", "coefficient": 10.0, "samples": 50}]
    whole, _, _ = train(ewc, 4)
    half, _, trainer = train(ewc, 3)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    L.seed_everything(1, verbose=False)
    recipe = Recipe({"name": "sgd", "lr": 0.05, "momentum": 0.9}, regularizers=ewc, batch=32)
    resumed = Classifier({"name": "mlp", "hidden": [16]}, recipe)
    make_trainer(max_epochs=4).fit(
        resumed, datamodule=sequence(2), ckpt_path=tmp_path / "half.ckpt", weights_only=True
    )
    for mine, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert not torch.equal(next(half.parameters()), next(whole.parameters()))


@pytest.mark.slow
def test_ewc_forgets_less_than_none(tmp_path: Any) -> None:
    """The suite's recipes, as the mean over seeds of the last accuracy on both tasks."""
    board = run("forgetting", tmp_path / "run", only="[en][wo][cn]*", seeds=3)
    last = {row.recipe: row.test_last for row in board.rows}
    assert set(last) == {"ewc", "none"}
    assert last["ewc"].mean > last["none"].mean + 0.1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tasks": ["digits"]}, "give a list of two tasks or more"),
        ({"tasks": "digits"}, "give a list of two tasks or more"),
        ({"tasks": ["digits", "wine"]}, "one net cannot learn both"),
        ({"tasks": ["digits", "digit"]}, "did you mean digits"),
        ({"tasks": ["digits", {"name": "altered"}]}, "tasks.1: altered: missing a required argument: 'data'"),
        ({"tasks": ["digits", {**PERMUTED, "alteration": []}]}, "takes no 'alteration'; did you mean alterations"),
        ({"tasks": ["digits", "parquet_stream"]}, "tasks.1: "),
        ({"tasks": [{"name": "task_sequence", "tasks": ["digits"] * 2, "epochs": 1}, "digits"]}, "a sequence itself"),
        ({"tasks": [{"name": "modular_arithmetic", "encoding": "sequence", "modulus": p} for p in (5, 7)]}, "output_"),
        ({"tasks": ["digits", "digits"], "epochs": 0}, "must be at least 1"),
    ],
)
def test_wrong_sequences_are_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TaskSequence(**{"epochs": 2, **arguments})


def table(path: Path, classes: str, columns: str = "ab") -> dict[str, Any]:
    rows = [
        ",".join([*(str(n % (5 + place)) for place in range(len(columns))), classes[n % len(classes)]])
        for n in range(120)
    ]
    path.write_text("\n".join([",".join([*columns, "kind"]), *rows]) + "\n")
    return {"name": "table", "path": str(path), "target": "kind"}


def test_facts_that_the_data_tell_are_those_of_the_tasks(tmp_path: Path) -> None:
    data = TaskSequence([table(tmp_path / "one.csv", "uvw"), table(tmp_path / "two.csv", "wvu")], 1)
    data.setup("fit")
    assert (data.input_shape, data.num_classes, data.output_size, data.task) == ((2,), 3, 3, "classification")


@pytest.mark.parametrize(("classes", "columns", "message"), [("uv", "ab", "num_classes 2"), ("uvw", "abc", r"\(3,\)")])
def test_tasks_that_turn_out_to_differ_are_one_line(tmp_path: Path, classes: str, columns: str, message: str) -> None:
    tasks = [table(tmp_path / "one.csv", "uvw"), table(tmp_path / "two.csv", classes, columns)]
    with pytest.raises(UserError, match=f"tasks.1: has .*{message}.*one net cannot learn both"):
        TaskSequence(tasks, 1).setup("fit")


@pytest.mark.parametrize("arguments", [{"alterations": ["permute_inputs"]}, {"train_eval_samples": 10}])
def test_a_sequence_is_not_altered_as_a_whole(arguments: dict[str, Any]) -> None:
    whole = Altered({"name": "task_sequence", "tasks": ["digits", PERMUTED], "epochs": 1}, **arguments)
    with pytest.raises(UserError, match="name `altered` within its tasks"):
        whole.setup("fit")
