"""The record's schema: a golden record of each version, round trips, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainoff.benchmarks.record import (
    SCHEMA_VERSION,
    Compression,
    Cost,
    Record,
    Scores,
    TrialFacts,
    UnreadableRecord,
    from_json,
    to_json,
)

GOLDEN = Path(__file__).parent / "golden"


def minimal(**fields):
    facts = TrialFacts("a1", "suite", "task", "recipe", "final", 0, {"optimizer": {"name": "sgd"}})
    return Record(trial=facts, status="ok", **fields)


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_the_golden_record_of_each_version_is_read(version):
    record = from_json((GOLDEN / f"record_schema_{version}.json").read_bytes())
    assert record.status == "ok"
    assert record.quality.metric == "accuracy"
    assert len(record.curves.val_metric) == record.cost.epochs == 3
    assert record.trial.setting["batch"] == 64


def test_the_present_schema_has_not_changed_without_a_new_version():
    """Every key of the golden record, and no other, is in what is written today."""

    def keys(node, path=""):
        if not isinstance(node, dict) or path in ("trial.setting", "trial.task_config", "environment.packages"):
            return {path}
        return {key for name, value in node.items() for key in keys(value, f"{path}.{name}".strip("."))}

    golden = json.loads((GOLDEN / f"record_schema_{SCHEMA_VERSION}.json").read_bytes())
    today = json.loads(to_json(from_json((GOLDEN / f"record_schema_{SCHEMA_VERSION}.json").read_bytes())))
    assert golden == today
    full = msgspec.to_builtins(minimal(cost=Cost()))
    full["compression"] = msgspec.to_builtins(Compression())
    for section in ("cost", "overfitting", "stability", "curves", "compression"):
        assert {*full[section]} == {*golden[section]}
    assert keys(golden) == keys(today)


@given(
    metric=st.floats(allow_nan=False, allow_infinity=False),
    text=st.text(max_size=30),
    seconds=st.one_of(st.none(), st.floats(0, 1e9)),
)
@settings(deadline=None)
def test_round_trip(metric, text, seconds):
    record = minimal(cost=Cost(train_seconds=seconds))
    record.trial.recipe = text
    record.curves.val_metric = [metric, None]
    assert from_json(to_json(record)) == record


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_become_null(value):
    document = to_json(minimal(cost=Cost(train_seconds=value)))
    assert json.loads(document)["cost"]["train_seconds"] is None
    assert from_json(document).cost.train_seconds is None


@pytest.mark.parametrize(
    ("document", "part"),
    [
        (b"", "truncated"),
        (b"\x00\x01\xff", "truncated"),
        (to_json(minimal())[:-40], "truncated"),
        (b"[" * 100_000, "truncated"),
        (b"[1, 2]", "not a trainoff record"),
        (b'{"status": "ok"}', "not a trainoff record"),
        (to_json(minimal()).replace(b'"ok"', b'"splendid"'), "not a trainoff record"),
        (to_json(minimal()).replace(b'"seed"', b'"sneed"'), "not a trainoff record"),
        (
            to_json(minimal()).replace(f'"schema_version": {SCHEMA_VERSION}'.encode(), b'"schema_version": 7'),
            "newer trainoff",
        ),
        (b'{"schema_version": 7, "quite": "other"}', "newer trainoff"),
    ],
)
def test_what_is_no_record_is_refused_with_its_reason(document, part):
    with pytest.raises(UnreadableRecord, match=part) as caught:
        from_json(document)
    assert "\n" not in str(caught.value)


def test_scores_default_to_nothing():
    assert Scores() == Scores(None, None)
