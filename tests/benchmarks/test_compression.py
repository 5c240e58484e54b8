"""What a record says of pruning, against counting by hand; and that the headline is a pruned state's."""

from __future__ import annotations

import dataclasses
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from running_suites import MLP, execute, make_data

from trainoff.benchmarks.engines.trainer import Surroundings, _Training, train
from trainoff.benchmarks.store import RunFolder
from trainoff.benchmarks.trial import Budget, Task, Trial
from trainoff.modules.pruning.packed_state import pack, unpack


def make_trial(pruning, epochs=4, module=MLP, data="digits", metric="accuracy", **setting):
    task = Task(
        "t", dict(module), {"name": data} if isinstance(data, str) else data, metric, "max", Budget(epochs=epochs)
    )
    fields = {"optimizer": {"name": "adamw", "lr": 0.01}, **setting}
    if pruning is not None:
        fields["pruning"] = pruning
    return Trial("s", task, "r", fields, {}, "final", 0, "", {})


@given(
    shape=st.lists(st.integers(0, 9), max_size=3),
    sparsity=st.floats(0, 1),
    kind=st.sampled_from([torch.float32, torch.float16, torch.int64, torch.bool]),
)
@settings(deadline=None, max_examples=60)
def test_a_packed_state_comes_back_bit_by_bit(shape, sparsity, kind):
    generator = torch.Generator().manual_seed(1)
    tensor = (torch.rand(shape, generator=generator) + 1).to(kind)
    tensor[torch.rand(shape, generator=generator) < sparsity] = 0
    file = io.BytesIO()
    torch.save(pack({"a": tensor, "b": 3}), file)
    file.seek(0)
    back = unpack(torch.load(file, weights_only=True))
    assert back["b"] == 3
    assert back["a"].dtype == tensor.dtype
    assert torch.equal(back["a"], tensor)


def test_it_takes_one_bit_an_entry_and_the_entries_that_are_left():
    tensor = torch.ones(1000, 80)
    tensor[:, 20:] = 0
    packed = pack({"a": tensor})["a"]
    assert packed["bits"].numel() == 10_000
    assert packed["values"].numel() == 20_000
    assert torch.is_tensor(pack({"a": torch.ones(50)})["a"])


def test_the_record_counts_zeros_bytes_time_and_both_metrics():
    training = _Training(make_trial({"name": "magnitude", "sparsity": 0.75, "at": 0.5}))
    training.run()
    found, curves, quality = training.compression, training.curves.curves, training.quality
    state = training.curves.best_state
    weights = [value for name, value in state.items() if name.endswith("weight")]
    assert found.sparsity == sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)
    assert found.sparsity == pytest.approx(0.75, abs=1e-3)
    every = [parameter for _, parameter in training.module.named_parameters()]
    assert found.sparsity_all == pytest.approx(found.pruned / sum(p.numel() for p in every))
    assert found.pruned == sum(int((w == 0).sum()) for w in weights)
    payload = sum(4 * value.numel() for value in state.values())
    left = sum(4 * int((w != 0).sum()) + w.numel() / 8 for w in weights)
    assert payload < found.dense_bytes < payload + 4000  # a zip archive's heads
    assert left < found.bytes_on_disk < left + 5000
    assert 1e-6 < found.latency_seconds < 0.1
    assert found.latency_seconds == found.dense_latency_seconds
    assert quality.best_epoch in (3, 4)
    assert found.metric_before == curves.val_metric[1]
    assert found.metric_after == quality.best.val.metric == curves.val_metric[quality.best_epoch - 1]


def test_the_best_state_is_one_with_the_final_masks():
    """Pruned to almost nothing, every dense epoch validates better; the headline is the pruned one's all the same."""
    record = train(make_trial({"name": "magnitude", "sparsity": 0.99, "at": 0.8}, epochs=5), Surroundings())
    assert max(record.curves.val_metric[:4]) > record.curves.val_metric[4]
    assert record.quality.best_epoch == 5
    assert record.compression.metric_before == record.curves.val_metric[3]
    assert record.compression.sparsity == pytest.approx(0.99, abs=0.001)


def test_the_target_is_reached_by_a_pruned_state():
    """Validation passes it in the first epoch; it counts from the first with the masks."""
    trial = make_trial({"name": "magnitude", "at": 0.5})
    trial = dataclasses.replace(trial, task=dataclasses.replace(trial.task, target=0.3))
    record = train(trial, Surroundings())
    assert record.curves.val_metric[0] >= 0.3
    assert record.cost.epochs_to_target == 3


def test_a_training_that_ends_before_the_pruning_has_its_dense_state():
    stop = [{"name": "early_stopping", "monitor": "val/loss", "patience": 1, "min_delta": 100.0}]
    record = train(make_trial({"name": "magnitude", "at": 0.9}, epochs=10, regularizers=stop), Surroundings())
    assert record.status == "ok"
    assert record.compression.sparsity < 0.01
    assert record.quality.best.test.metric is not None


def test_a_dense_recipe_says_nothing_of_it():
    assert train(make_trial(None, epochs=1), Surroundings()).compression is None


def test_a_users_module_without_forward_has_no_latency():
    users = {"class_path": "users_project.UsersModule", "init_args": {}}
    data = {"class_path": "users_project.UsersData", "init_args": {}}
    record = train(make_trial("magnitude", module=users, data=data, metric="acc"), Surroundings())
    assert record.compression.latency_seconds is None
    assert record.compression.sparsity == pytest.approx(0.5, abs=0.01)


def test_a_suite_runs_pruned_recipes_and_its_records_are_read_again(tmp_path):
    recipes = {"pruned": {"optimizer": "adamw", "pruning": {"name": "gradual", "sparsity": {"tune": [0.5, 0.9]}}}}
    execute(make_data(recipes, seeds={"tune": 1, "final": 1}, epochs=2), tmp_path / "run", workers=1)
    records = [record for record in records_of_all(tmp_path / "run") if record.trial.stage == "tune"]
    sparsities = sorted(record.compression.sparsity for record in records)
    assert sparsities == pytest.approx([0.5, 0.9], abs=0.01)


def records_of_all(folder):
    records, problems = RunFolder(folder).read_all()
    assert not problems
    return list(records.values())
