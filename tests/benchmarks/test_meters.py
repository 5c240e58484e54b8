"""Parts of the meters that the engine's tests do not reach."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from users_project import UsersData, UsersModule, make_trainer

from trainoff.benchmarks.meters.curves import find_logged, norm
from trainoff.benchmarks.meters.group import MeterGroup


class Notes(L.Callback):
    """Notes the hooks it gets."""

    def __init__(self):
        self.seen = []

    def on_train_start(self, trainer, pl_module):
        self.seen.append("start")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append(batch_idx)

    def on_train_end(self, trainer, pl_module):
        self.seen.append("end")


def test_a_group_forwards_what_each_meter_has_in_order():
    alone, grouped, second = Notes(), Notes(), Notes()
    second.seen = grouped.seen
    make_trainer(callbacks=[alone]).fit(UsersModule(), datamodule=UsersData())
    make_trainer(callbacks=[MeterGroup([grouped, second])]).fit(UsersModule(), datamodule=UsersData())
    assert grouped.seen == [each for each in alone.seen for _ in range(2)]
    assert alone.seen[0] == "start"
    assert alone.seen[-1] == "end"


@pytest.mark.parametrize(
    ("logged", "split", "name", "expected"),
    [
        ({"val/accuracy": 0.5}, "val", "accuracy", 0.5),
        ({"val_acc": 0.5}, "val", "acc", 0.5),
        ({"val_acc": 0.5}, "val", "val_acc", 0.5),
        ({"test_acc": 0.25, "val_acc": 0.5}, "test", "val_acc", 0.25),
        ({"valid/f1": 0.5}, "val", "f1", 0.5),
        ({"acc": 0.5}, "val", "acc", 0.5),
        ({"loss": 0.5}, "val", "loss", None),  # the training's, as likely as not
        ({"val/accuracy": float("nan")}, "val", "accuracy", None),
        ({}, "val", "accuracy", None),
    ],
)
def test_metrics_are_found_under_the_names_that_people_give_them(logged, split, name, expected):
    assert find_logged(logged, split, name) == expected


def test_norm_is_that_of_all_tensors_together():
    tensors = [torch.randn(3, 4), torch.randn(5), torch.tensor(2.0)]
    assert norm(tensors) == pytest.approx(torch.cat([t.flatten() for t in tensors]).norm().item(), rel=1e-6)
    assert norm([]) is None
