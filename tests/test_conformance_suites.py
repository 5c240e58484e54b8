"""Each deliberately broken suite fails exactly the checks that it should."""

from __future__ import annotations

import pytest
from failed_checks import failed

from trainoff.benchmarks.conformance import check

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
