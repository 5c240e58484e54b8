"""Whole runs of small suites: what is run, what is reused, what is set aside, and what each failure leaves."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from running_suites import execute, low_limit, make_data, numbers_of, records_of

from trainoff.benchmarks.store import RunFolder
from trainoff.errors import UserError

ADAMW = {"optimizer": {"name": "adamw", "lr": 0.003}, "batch": 64}
SGD = {"optimizer": {"name": "sgd", "lr": 0.1}, "batch": 64}
TUNED = {"optimizer": {"name": "sgd", "lr": {"tune": [0.01, 0.1]}}, "batch": 64}


def failing(recipes=None, **arguments):
    module = {"class_path": "running_suites.Failing", "init_args": arguments}
    return make_data(recipes or {"sgd": SGD}, module=module, data="running_suites.UsersData", time_limit=60)


def counts(progress):
    return progress.done, progress.reused, progress.failed


def stamps(folder):
    return {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in (folder / "records").glob("*.json")}


def set_aside(folder):
    return {path.stem for path in (folder / "set-aside").glob("*.json")} if (folder / "set-aside").is_dir() else set()


# --- what is run and what is reused -----------------------------------------------------------------------------


def test_each_trial_leaves_a_record_and_a_second_run_runs_nothing(tmp_path):
    data = make_data({"adamw": ADAMW, "tuned": TUNED}, seeds=2)
    progress = execute(data, tmp_path)
    assert (progress.total, *counts(progress)) == (6, 6, 0, 0)
    records = records_of(tmp_path)
    assert {record.status for record in records.values()} == {"ok"}
    chosen = max((0.01, 0.1), key=lambda lr: records["tuned", "tune", 0, lr].quality.best.val.metric)
    assert set(records) == {
        ("adamw", "final", 1, 0.003),
        ("adamw", "final", 2, 0.003),
        ("tuned", "tune", 0, 0.01),
        ("tuned", "tune", 0, 0.1),
        ("tuned", "final", 1, chosen),
        ("tuned", "final", 2, chosen),
    }
    for record in records.values():
        assert record.quality.last.test.metric is not None
        assert record.trial.data_digest
        assert record.trial.initial_state_digest
        assert record.trial.order_digest
        assert record.environment.trials_beside == 1
        assert record.cost.epochs == 1
    before = stamps(tmp_path)
    assert counts(execute(data, tmp_path)) == (0, 6, 0)
    assert stamps(tmp_path) == before
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".tmp"]


def test_where_times_are_exclusive_each_trial_runs_alone(tmp_path):
    execute(make_data({"adamw": ADAMW, "sgd": SGD}, seeds=2, timing="exclusive"), tmp_path, workers=2)
    assert {record.environment.trials_beside for record in records_of(tmp_path).values()} == {0}


def test_a_changed_recipe_runs_anew_and_the_old_one_comes_back(tmp_path):
    changed = {"optimizer": {"name": "sgd", "lr": 0.05}, "batch": 64}
    data = make_data({"adamw": ADAMW, "sgd": SGD})
    execute(data, tmp_path)
    first = numbers_of(tmp_path)
    progress = execute(make_data({"adamw": ADAMW, "sgd": changed}), tmp_path)
    assert counts(progress) == (1, 1, 0)
    assert progress.notes == ["set aside 1 record: the setting changed (sgd on t)"]
    (old,) = set(first) - set(numbers_of(tmp_path))
    assert set_aside(tmp_path) == {old}
    assert records_of(tmp_path).keys() == {("adamw", "final", 1, 0.003), ("sgd", "final", 1, 0.05)}
    assert counts(execute(data, tmp_path)) == (0, 2, 0)
    assert numbers_of(tmp_path) == first


def test_a_removed_recipe_is_set_aside_and_a_renamed_task_too(tmp_path):
    execute(make_data({"adamw": ADAMW, "sgd": SGD}), tmp_path)
    progress = execute(make_data({"adamw": ADAMW}), tmp_path)
    assert counts(progress) == (0, 1, 0)
    assert progress.notes == ["set aside 1 record: no longer in the suite (sgd on t)"]
    assert records_of(tmp_path).keys() == {("adamw", "final", 1, 0.003)}


def test_a_changed_task_says_so(tmp_path):
    execute(make_data({"sgd": SGD}), tmp_path)
    progress = execute(make_data({"sgd": SGD}, epochs=2), tmp_path)
    assert counts(progress) == (1, 0, 0)
    assert progress.notes == ["set aside 1 record: the task changed (sgd on t)"]


def test_only_and_seeds(tmp_path):
    data = make_data({"adamw": ADAMW, "sgd": SGD})
    assert counts(execute(data, tmp_path, only="sgd")) == (1, 0, 0)
    # `only` leaves the others' records alone, and what it has run counts later.
    assert counts(execute(data, tmp_path)) == (1, 1, 0)
    assert counts(execute(data, tmp_path, only="a*", seeds=2)) == (1, 1, 0)
    assert not set_aside(tmp_path)
    assert len(records_of(tmp_path)) == 3


@pytest.mark.slow
def test_a_seed_that_changes_sides_counts_for_what_it_is_now(tmp_path):
    recipes = {"adamw": ADAMW, "tuned": TUNED}
    execute(make_data(recipes, seeds={"tune": 1, "final": 2}), tmp_path)
    before = records_of(tmp_path)
    lr = next(key[3] for key in before if key[:2] == ("tuned", "final"))
    progress = execute(make_data(recipes, seeds={"tune": 2, "final": 1}), tmp_path)
    # Seed 1 was final and is for tuning now: the chosen setting's trial is reused, the other one's is run.
    assert ("tuned", "tune", 1, lr) in records_of(tmp_path)
    assert {key[2] for key in records_of(tmp_path) if key[1] == "final"} == {2}
    assert progress.done == 1
    assert "set aside 1 record: seed 1 is now for tuning (adamw on t)" in progress.notes
    execute(make_data(recipes, seeds={"tune": 1, "final": 2}), tmp_path)
    assert records_of(tmp_path).keys() == before.keys()


def test_rerun_failed_runs_the_failed_ones_alone(tmp_path):
    data = make_data({"sgd": SGD, "wild": {"optimizer": {"name": "sgd", "lr": 1e12}, "batch": 64}})
    assert counts(execute(data, tmp_path)) == (2, 0, 1)
    before = stamps(tmp_path)
    assert counts(execute(data, tmp_path)) == (0, 2, 1)
    assert stamps(tmp_path) == before
    assert counts(execute(data, tmp_path, rerun="failed")) == (1, 1, 1)
    after = stamps(tmp_path)
    assert [name for name in before if before[name] == after[name]] == [
        f"{records_of(tmp_path)['sgd', 'final', 1, 0.1].trial.id}.json"
    ]


@pytest.mark.slow
def test_rerun_all_runs_all_and_gives_the_same(tmp_path):
    data = make_data({"adamw": ADAMW, "tuned": TUNED})
    execute(data, tmp_path)
    first, before = numbers_of(tmp_path), stamps(tmp_path)
    assert counts(execute(data, tmp_path, rerun="all")) == (4, 0, 0)
    assert numbers_of(tmp_path) == first
    assert all(before[name] != stamp for name, stamp in stamps(tmp_path).items())


@pytest.mark.parametrize("rerun", ["failed", "all"])
def test_a_failed_record_of_an_earlier_setting_does_not_stay_on_the_board(tmp_path, rerun):
    wild = {"optimizer": {"name": "sgd", "lr": 1e12}, "batch": 64}
    execute(make_data({"sgd": wild}), tmp_path)
    execute(make_data({"sgd": SGD}), tmp_path, rerun=rerun)
    assert records_of(tmp_path).keys() == {("sgd", "final", 1, 0.1)}


def test_final_trials_of_another_choice_are_set_aside_when_all_are_run_again(tmp_path):
    data = make_data({"tuned": TUNED})
    execute(data, tmp_path)
    (final,) = [record for key, record in records_of(tmp_path).items() if key[1] == "final"]
    # As if the tuning trials had been for the other setting the last time.
    others = [lr for lr in (0.01, 0.1) if lr != final.trial.setting["optimizer"]["lr"]]
    trial = make_final(data, others[0])
    with RunFolder(tmp_path) as folder:
        folder.set_aside(final.trial.id)
        final.trial = trial.facts()
        folder.write(final)
    progress = execute(data, tmp_path, rerun="all")
    assert {key[3] for key in records_of(tmp_path) if key[1] == "final"}.isdisjoint(others)
    assert "set aside 1 record: another setting was chosen (tuned on t)" in progress.notes


def make_final(data, lr):
    from running_suites import place

    from trainoff.benchmarks.pairs import make_pairs
    from trainoff.benchmarks.suite import parse_suite

    (pair,) = make_pairs(parse_suite(data, place))
    (setting,) = [setting for setting in pair.recipe.settings if setting.fields["optimizer"]["lr"] == lr]
    return pair._trial(setting, "final", 1)


USERS_OPTIMIZER = """
import torch

class Mine(torch.optim.SGD):
    FACTOR = {factor}
    def step(self, closure=None):
        loss = super().step(closure)
        return loss
"""


def test_editing_the_source_of_a_class_makes_new_trials_and_says_why(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    source = tmp_path / "edited_optimizer_of_a_user.py"
    source.write_text(USERS_OPTIMIZER.format(factor=1))
    choice = {"class_path": "edited_optimizer_of_a_user.Mine", "init_args": {"lr": 0.1}}
    data = make_data({"mine": {"optimizer": choice, "batch": 64}, "sgd": SGD})
    folder = tmp_path / "run"
    assert counts(execute(data, folder)) == (2, 0, 0)
    source.write_text(USERS_OPTIMIZER.format(factor=2))
    progress = execute(data, folder)
    assert counts(progress) == (1, 1, 0)
    assert progress.notes == ["set aside 1 record: the source of edited_optimizer_of_a_user.Mine changed (mine on t)"]
    source.write_text(USERS_OPTIMIZER.format(factor=1))
    assert counts(execute(data, folder)) == (0, 2, 0)
    sys.modules.pop("edited_optimizer_of_a_user")


def test_changed_data_run_again_where_the_datamodule_tells_no_digest(tmp_path):
    path = tmp_path / "data.pt"
    module = {"class_path": "users_project.UsersModule"}
    source = {"class_path": "running_suites.SavedData", "init_args": {"path": str(path)}}
    data = make_data({"sgd": SGD}, module=module, data=source)
    data["tasks"]["t"] |= {"metric": "acc", "mode": "max"}
    inputs, targets = torch.randn(96, 6), torch.arange(96) % 3
    torch.save((inputs, targets), path)
    assert counts(execute(data, tmp_path / "run")) == (1, 0, 0)
    assert counts(execute(data, tmp_path / "run")) == (0, 1, 0)  # though its split has no seed
    targets[5] = 0
    torch.save((inputs, targets), path)
    progress = execute(data, tmp_path / "run")
    assert counts(progress) == (1, 0, 0)
    assert progress.notes == ["set aside 1 record: the data changed (sgd on t)"]


def test_what_is_in_the_way_is_reported_and_left_alone(tmp_path):
    data = make_data({"sgd": SGD})
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "foreign.json").write_text("{}")
    progress = execute(data, tmp_path)
    assert counts(progress) == (1, 0, 0)
    assert [note.partition(":")[0] for note in progress.notes] == ["foreign.json is skipped"]
    assert (tmp_path / "records" / "foreign.json").read_text() == "{}"


def test_a_truncated_record_is_run_again_and_kept_beside(tmp_path):
    data = make_data({"sgd": SGD})
    execute(data, tmp_path)
    (path,) = (tmp_path / "records").glob("*.json")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    progress = execute(data, tmp_path)
    assert counts(progress) == (1, 0, 0)
    assert path.with_name(f"{path.name}.unreadable-1").read_bytes() == whole[: len(whole) // 2]
    assert json.loads(path.read_bytes())["status"] == "ok"


# --- failures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "status", "kind", "said"),
    [
        ("raise", "crashed", "ValueError", "no such luck, at all"),
        ("exit", "crashed", "SystemExit", "3"),
        ("memory_error", "out_of_memory", "MemoryError", "no room"),
        ("cuda_memory", "out_of_memory", "OutOfMemoryError", "CUDA out of memory"),
        ("allocator", "out_of_memory", "RuntimeError", "DefaultCPUAllocator"),
        ("segfault", "crashed", "WorkerDied", "SIGSEGV"),
        ("killed", "interrupted", "WorkerDied", "SIGKILL"),
        ("nan", "diverged", "Diverged", "nan"),
    ],
)
def test_a_failure_leaves_a_record_and_the_run_goes_on(tmp_path, how, status, kind, said):
    data = failing({"sgd": SGD}, how=how)
    good = make_data({})["tasks"]["t"]
    data["tasks"]["good"] = good
    progress = execute(data, tmp_path)
    assert counts(progress) == (2, 0, 1)
    records = {record.trial.task: record for record in RunFolder(tmp_path).read_all()[0].values()}
    assert records["good"].status == "ok"
    failed = records["t"]
    assert failed.status == status
    assert failed.error.type == kind
    assert said in failed.error.message
    assert "\n" not in failed.error.message
    assert failed.quality.metric == "accuracy"
    assert failed.environment.packages["torch"]
    if status in ("crashed", "out_of_memory") and kind != "WorkerDied":
        assert "in fail" in failed.error.traceback
    # A trial that was killed from outside is tried again by the next run, any other is a result.
    assert counts(execute(data, tmp_path)) == ((1, 1, 1) if status == "interrupted" else (0, 2, 1))


def test_a_worker_that_the_system_killed_for_its_memory_is_a_result(tmp_path, monkeypatch):
    (tmp_path / "group").mkdir()
    low_limit(tmp_path / "group", monkeypatch)
    data = failing(how="killed")
    progress = execute(data, tmp_path / "run")
    assert counts(progress) == (1, 0, 1)
    assert progress.notes == []
    (record,) = records_of(tmp_path / "run").values()
    assert record.status == "out_of_memory"
    assert "ended by SIGKILL: 1 of 100 MiB of memory were left" in record.error.message
    assert counts(execute(data, tmp_path / "run")) == (0, 1, 1)


def test_a_killed_fork_server_says_nothing_about_the_recipe(tmp_path):
    data = failing(how="kill_parent")
    progress = execute(data, tmp_path)
    assert counts(progress) == (1, 0, 1)
    assert progress.notes == ["workers were killed from outside in 1 trial, 1 of them twice: the next run tries again"]
    (record,) = records_of(tmp_path).values()
    assert record.status == "interrupted"
    assert "the fork server" in record.error.message
    assert counts(execute(data, tmp_path)) == (1, 0, 1)


def test_divergence_stops_at_once_and_keeps_the_last_finite_step(tmp_path):
    data = make_data({"wild": {"optimizer": {"name": "sgd", "lr": 1e12}, "batch": 64}}, epochs=50)
    execute(data, tmp_path)
    (record,) = records_of(tmp_path).values()
    assert record.status == "diverged"
    assert 1 <= record.stability.last_finite_step <= 5
    assert record.cost.steps <= record.stability.last_finite_step + 1
    assert record.quality.best.test.metric is None


def test_a_trial_over_its_time_limit_is_ended(tmp_path):
    data = failing(how="hang") | {"time_limit": 2}
    progress = execute(data, tmp_path, workers=1)
    assert counts(progress) == (1, 0, 1)
    (record,) = records_of(tmp_path).values()
    assert (record.status, record.error.message) == ("timed_out", "more than 2 seconds")


def test_where_all_settings_fail_the_first_goes_on_as_a_failure(tmp_path):
    data = make_data({"wild": {"optimizer": {"name": "sgd", "lr": {"tune": [1e12, 1e13]}}, "batch": 64}})
    assert counts(execute(data, tmp_path)) == (3, 0, 3)
    assert {key[1:] for key in records_of(tmp_path)} == {("tune", 0, 1e12), ("tune", 0, 1e13), ("final", 1, 1e12)}


# --- users' mistakes that only a worker finds -------------------------------------------------------------------


def test_a_mistake_found_in_a_worker_ends_the_run_in_one_line_and_keeps_records(tmp_path):
    linear = {"name": "classifier", "net": "linear"}
    good = make_data({"sgd": SGD}, module=linear)
    execute(good, tmp_path)
    before = stamps(tmp_path)
    data = make_data({"sgd": SGD, "dropout": {**SGD, "regularizers": ["dropout"]}}, module=linear, seeds=2)
    with pytest.raises(UserError, match="recipe dropout on task t: ") as caught:
        execute(data, tmp_path, workers=1)
    assert "\n" not in str(caught.value)
    assert "dropout" in caught.value.message
    assert before.items() <= stamps(tmp_path).items()
    assert counts(execute(good, tmp_path))[0] == 0


def test_a_metric_that_is_not_logged_says_what_is(tmp_path):
    data = failing(how="") | {"recipes": {"sgd": SGD}}
    data["tasks"]["t"]["metric"] = "f1"
    with pytest.raises(UserError, match=r"no validation metric 'f1'; it logs .*val_acc") as caught:
        execute(data, tmp_path)
    assert "\n" not in str(caught.value)
    assert not records_of(tmp_path)


def test_a_batch_larger_than_the_data_is_refused_before_anything_is_written(tmp_path):
    data = make_data({"sgd": {**SGD, "batch": 5000}})
    with pytest.raises(
        UserError, match="recipe sgd on task t: batch: a batch of 5000 samples; the training split has"
    ):
        execute(data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_of_another_suite_is_refused(tmp_path):
    data = make_data({"sgd": SGD})
    execute(data, tmp_path)
    with pytest.raises(UserError, match="holds the suite 'small', not 'other'; give another --out"):
        execute(data | {"name": "other"}, tmp_path)


# --- the same numbers, whatever runs beside ---------------------------------------------------------------------


def test_records_are_equal_for_any_number_of_workers_and_for_two_runs(tmp_path):
    data = make_data({"adamw": ADAMW, "tuned": TUNED, "dropout": {**SGD, "regularizers": ["dropout"]}}, seeds=2)
    folders = [tmp_path / name for name in ("one", "two", "again")]
    for folder, workers in zip(folders, (1, 2, 2), strict=True):
        execute(data, folder, workers=workers)
    one, two, again = map(numbers_of, folders)
    assert len(one) == 8
    assert one == two == again


CHANGES = {
    "baseline": ADAMW,
    "sgd": SGD,
    "lion": {"optimizer": "lion", "batch": 64},
    "cosine": {**ADAMW, "schedule": {"name": "cosine", "warmup": 0.1}},
    "one_cycle": {**ADAMW, "schedule": "one_cycle"},
    "l2": {**ADAMW, "regularizers": ["l2"]},
    "weight_decay": {**ADAMW, "regularizers": ["weight_decay"]},
    "gradient_clip": {**ADAMW, "regularizers": ["gradient_clip"]},
    "dropout": {**ADAMW, "regularizers": [{"name": "dropout", "p": 0.5}]},
    "label_smoothing": {**ADAMW, "regularizers": ["label_smoothing"]},
    "microbatches": {**ADAMW, "microbatches": 2},
    "batch": {**ADAMW, "batch": 32},
    "initialisation": {**ADAMW, "initialisation": "kaiming_normal"},
}


def test_every_recipe_of_a_seed_starts_from_the_same_weights_and_the_same_order(tmp_path):
    """Initial weights and order are functions of the seed, for every recipe that does not mean to change them."""
    execute(make_data(CHANGES, seeds=2), tmp_path)
    trials = {(key[0], key[2]): record.trial for key, record in records_of(tmp_path).items()}
    for seed in (1, 2):
        weights = {name: trials[name, seed].initial_state_digest for name in CHANGES}
        orders = {trials[name, seed].order_digest for name in CHANGES}
        changed = weights.pop("initialisation")
        assert len(set(weights.values())) == 1, weights
        assert changed not in weights.values()
        assert len(orders) == 1
    for name in CHANGES:
        assert trials[name, 1].initial_state_digest != trials[name, 2].initial_state_digest
        assert trials[name, 1].order_digest != trials[name, 2].order_digest
