"""A W&B run holds what its record holds: configs, rows and summaries are held against a second, naive reading."""

from __future__ import annotations

import json

import msgspec
import pytest
from publishing_records import records
from record_making import record

from trainoff.benchmarks.record import Curves, from_json
from trainoff.leaderboards.publishing.run_content import begun_content, content_of, nested, row_of, rows_of, run_name

GHP = "ghp_" + "a1B2c3D4e5" * 4


@pytest.mark.parametrize("made", records(), ids=lambda made: made.trial.id)
def test_rows_and_summary_are_those_of_the_record(made):
    content = content_of(made)
    plain = msgspec.to_builtins(made)
    curves = plain["curves"]
    for epoch, row in enumerate(content.rows, 1):
        named = {"train/loss": "train_loss", "val/loss": "val_loss", "val/accuracy": "val_metric"}
        named |= {name: name for name in ("learning_rate", "gradient_norm", "weight_norm", "train_seconds", "steps")}
        expected = {name: curves[field][epoch - 1] for name, field in named.items()}
        assert row == {"epoch": epoch, **{name: value for name, value in expected.items() if value is not None}}
    assert len(content.rows) == len(curves["train_loss"])
    for key, value in content.summary.items():
        first, *rest = key.split("/")
        if first in ("best", "last"):
            split, name = rest
            assert value == plain["quality"][first][split]["loss" if name == "loss" else "metric"]
        elif rest:
            assert value == plain[first][rest[0]]
        else:
            assert value == {**plain, **(plain["quality"] or {})}[key]
    assert content.summary["status"] == made.status
    assert content.has_failed == (made.status != "ok")
    assert from_json(content.record.encode()) == made


def test_config_is_the_trial_and_its_environment():
    made = records()[0]
    content = content_of(made)
    trial = msgspec.to_builtins(made.trial)
    assert content.config == {
        **trial,
        "tuned": {"optimizer": {"lr": 0.01}},
        "environment": msgspec.to_builtins(made.environment),
    }
    assert (content.group, content.job_type) == ("digits", "adamw")
    assert content.tags == ["trainoff", "a-suite", "tune"]


def test_a_run_that_begins_is_the_run_that_ends():
    """Publishing afterwards must find nothing to change in a run that was live."""
    made = records()[2]
    begun, whole = begun_content(made.trial), content_of(made)
    assert (begun.name, begun.group, begun.job_type, begun.tags) == (
        whole.name,
        whole.group,
        whole.job_type,
        whole.tags,
    )
    assert begun.config.items() <= whole.config.items()
    curves = msgspec.to_builtins(made.curves)
    live = [row_of({"epoch": e + 1, **{k: v[e] for k, v in curves.items()}}, "accuracy") for e in range(4)]
    assert live == whole.rows


def test_names_are_readable():
    assert run_name(records()[2].trial) == "adamw on digits, seed 1"
    assert run_name(records()[1].trial) == "adamw on digits, seed 0, tuning lr=0.1"


def test_rows_end_where_the_longest_curve_does():
    curves = Curves(train_loss=[1.0, None], val_loss=[2.0, 3.0, 4.0])
    assert rows_of(curves, "accuracy") == [
        {"epoch": 1, "train/loss": 1.0, "val/loss": 2.0},
        {"epoch": 2, "val/loss": 3.0},
        {"epoch": 3, "val/loss": 4.0},
    ]
    assert rows_of(Curves(), "accuracy") == []


def test_dots_become_levels():
    assert nested({"optimizer.lr": 0.1, "optimizer.momentum": 0.9, "regularizers.0.alpha": 1}) == {
        "optimizer": {"lr": 0.1, "momentum": 0.9},
        "regularizers": {"0": {"alpha": 1}},
    }


def test_what_looks_like_a_secret_is_nowhere():
    made = record(setting={"optimizer": {"name": "adamw"}, "api_key": "hunter2"}, status="crashed")
    made.error.message = made.error.traceback = f"cannot log in with {GHP}"
    content = content_of(made)
    text = json.dumps(msgspec.to_builtins(content))
    assert "hunter2" not in text
    assert GHP not in text
    assert from_json(content.record.encode()).trial.id == made.trial.id


def test_the_digest_is_of_the_content():
    one, other = records()[2], records()[2]
    assert content_of(one).digest == content_of(other).digest
    other.curves.val_loss[-1] += 1e-9
    assert content_of(one).digest != content_of(other).digest


def test_long_and_strange_names_fit():
    """W&B refuses a tag of more than 64 characters."""
    made = record("r" * 500, task="t\n" * 100, suite="s" * 100)
    content = content_of(made)
    assert all(1 <= len(tag) <= 64 for tag in content.tags)
    assert max(map(len, (content.name, content.group, content.job_type))) <= 128
    assert "\n" not in content.name + content.group
