"""The predicted peak of a rank against real processes."""

from __future__ import annotations

import pytest

from trainoff.benchmarks.measure_rank_memory import ROWS, measure, predict


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_the_predicted_peak_of_a_rank_is_the_measured_one(row):
    assert predict(row, "adamw") == pytest.approx(measure(row, "adamw"), rel=0.1)
